//! Locations near a place: <https://hl7.org/fhir/R4/location.html#search>, the special parameter
//! `near`.
//!
//! What is found lies in the box around the circle that was asked for, which R4 allows; nothing is
//! sorted by distance.

use crate::path::Value;

use super::condition::{Bound, Condition};
use super::escape::split;
use super::fault::Fault;
use super::key::Number;
use super::query::{Asked, Reader};

/// The code of the parameter.
pub(super) const NEAR: &str = "near";
/// Where longitudes are indexed.
pub(super) const LONGITUDE: &str = "near:longitude";

/// Kilometres of a degree of latitude, a little less than the shortest: the box never is too small.
const DEGREE: f64 = 110.5;

/// Kilometres when the distance is left out.
const DISTANCE: f64 = 50.0;

/// Kilometres of the units that R4 names for distances; UCUM's codes and common names.
const UNITS: [(&str, f64); 9] = [
    ("", 1.0),
    ("km", 1.0),
    ("kms", 1.0),
    ("m", 0.001),
    ("mi", 1.609_344),
    ("mi_us", 1.609_347),
    ("[mi_i]", 1.609_344),
    ("[mi_us]", 1.609_347),
    ("miles", 1.609_344),
];

/// Latitude and longitude of a position.
pub(super) fn position(value: &Value<'_>) -> Option<(f64, f64)> {
    let json = value.json()?;
    let degrees = |name| Some(Number::parse(json.get(name)?.as_number()?)?.value);
    Some((degrees("latitude")?, degrees("longitude")?))
}

impl Reader<'_> {
    /// `latitude|longitude|distance|units`.
    pub(super) fn near(&self, asked: &Asked<'_>, value: &str) -> Result<Condition, Fault> {
        if asked.modifier.is_some() {
            return Err(asked.unknown_modifier("missing"));
        }
        let form = "latitude|longitude|distance|units, as in 51.5|-0.12|10|km";
        let parts = split(value, '|');
        let part = |at: usize| parts.get(at).copied().unwrap_or_default();
        let number = |text: &str| Number::parse(text).map(|number| number.value);
        let factor = UNITS.iter().find(|(unit, _)| *unit == part(3)).map(|(_, factor)| factor);
        let distance = match part(2) {
            "" => Some(DISTANCE),
            text => number(text).zip(factor).map(|(number, factor)| number * factor),
        };
        match (number(part(0)), number(part(1)), distance) {
            (Some(latitude), Some(longitude), Some(distance))
                if parts.len() <= 4
                    && latitude.abs() <= 90.0
                    && longitude.abs() <= 180.0
                    && distance >= 0.0 =>
            {
                Ok(around(latitude, longitude, distance))
            }
            _ => Err(asked.expected(form)),
        }
    }
}

fn around(latitude: f64, longitude: f64, distance: f64) -> Condition {
    let height = distance / DEGREE;
    let (south, north) = (latitude - height, latitude + height);
    let mut all = vec![within(NEAR, south, north)];
    // Meridians come together towards the poles: the box is as wide as at its narrowest parallel.
    let narrowest = south.abs().max(north.abs());
    let width = height / narrowest.min(90.0).to_radians().cos();
    if narrowest < 90.0 && width < 180.0 {
        let (west, east) = (longitude - width, longitude + width);
        // Across the antimeridian the box has two parts.
        all.push(if west < -180.0 {
            Condition::Any(vec![
                within(LONGITUDE, -180.0, east),
                within(LONGITUDE, west + 360.0, 180.0),
            ])
        } else if east > 180.0 {
            Condition::Any(vec![
                within(LONGITUDE, west, 180.0),
                within(LONGITUDE, -180.0, east - 360.0),
            ])
        } else {
            within(LONGITUDE, west, east)
        });
    }
    Condition::All(all)
}

fn within(code: &str, from: f64, to: f64) -> Condition {
    let (low, high) = ([Bound::Included(from), Bound::Open], [Bound::Open, Bound::Included(to)]);
    Condition::Number(code.to_owned(), low, high, None)
}
