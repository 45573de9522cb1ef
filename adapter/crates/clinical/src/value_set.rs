//! Value sets of health states: tables that a site supplies, such as those of EQ-5D.
//!
//! No table is part of this product. The form of the file is that of
//! `profiles/schema/value-sets.schema.json`: a set gives decrements from 1, or the value of every
//! state, or values by age band and sex. Where a set only states check points, those are all that
//! is known; of other states there is no value, with a reason.

use std::collections::HashMap;
use std::sync::Arc;

use lumbar_fhir::{Issue, Json};
use rust_decimal::Decimal;

use crate::instrument::read::{decimal, fault, join, text};

/// The dimensions in the order of a profile's digits.
const DIMENSIONS: [&str; 5] = ["MO", "SC", "UA", "PD", "AD"];
/// Most states of one table.
const MAX_STATES: usize = 100_000;

/// The sets that a site supplies.
#[derive(Clone, Debug, Default)]
pub struct ValueSets(Vec<Arc<ValueSet>>);

/// One of them.
#[derive(Clone, Debug)]
pub struct ValueSet {
    /// Its id, which instruments name.
    pub id: String,
    /// Its name for people.
    pub name: String,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// What each level takes from 1, dimension by dimension.
    Decrements(Box<[[Decimal; 5]; 5]>),
    States(HashMap<String, Decimal>),
    People(Vec<Band>),
}

/// The states of people of some ages and one sex.
#[derive(Clone, Debug)]
struct Band {
    first_age: u32,
    last_age: u32,
    sex: Sex,
    states: HashMap<String, Decimal>,
}

/// Sex as such tables divide people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sex {
    /// Female.
    Female,
    /// Male.
    Male,
}

/// Why a profile has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoValue {
    /// A level is missing or is none, or the table does not hold the state.
    NotComputable,
    /// The table divides people by age and sex.
    AgeAndSexRequired,
}

impl NoValue {
    /// The flag for it.
    pub fn flag(self) -> &'static str {
        match self {
            NoValue::NotComputable => "index-not-computable",
            NoValue::AgeAndSexRequired => "age-and-sex-required",
        }
    }
}

impl Sex {
    /// Reads `female` or `male`.
    pub fn parse(text: &str) -> Option<Sex> {
        match text {
            "female" => Some(Sex::Female),
            "male" => Some(Sex::Male),
            _ => None,
        }
    }
}

impl ValueSets {
    /// Reads a site's file.
    ///
    /// # Errors
    /// The first fault with its place, a value that contradicts a check point of its set among them.
    pub fn parse(json: &Json) -> Result<ValueSets, Issue> {
        let mut sets: Vec<Arc<ValueSet>> = Vec::new();
        for (index, set) in json.list("valueSets").iter().enumerate() {
            let place = format!("valueSets[{index}]");
            let set = ValueSet::parse(set, &place)?;
            if sets.iter().any(|other| other.id == set.id) {
                return Err(fault(&place, &format!("repeats the id {}", set.id)));
            }
            sets.push(Arc::new(set));
        }
        Ok(ValueSets(sets))
    }

    /// The set with that id.
    pub fn get(&self, id: &str) -> Option<&Arc<ValueSet>> {
        self.0.iter().find(|set| set.id == id)
    }
}

impl ValueSet {
    fn parse(json: &Json, place: &str) -> Result<ValueSet, Issue> {
        let content = if json.get("decrements").is_some() {
            Content::Decrements(Box::new(decrements(json, place)?))
        } else if let Some(table) = json.get("states") {
            Content::States(states(table, &join(place, "states"))?)
        } else {
            Content::People(people(json, place)?)
        };
        let (id, name) = (text(json, "id", place)?, text(json, "name", place)?);
        let set = ValueSet { id, name, content };
        let checks = json.get("check").and_then(Json::as_object);
        for (profile, value) in checks.into_iter().flat_map(|checks| checks.iter()) {
            let place = join(place, "check");
            if set.index(profile, None) != Ok(decimal(value, &place)?) {
                return Err(fault(&place, &format!("is not what the table gives for {profile}")));
            }
        }
        for (index, point) in json.list("checkPoints").iter().enumerate() {
            let place = format!("{place}.checkPoints[{index}]");
            let (profile, age, sex, value) = check_point(point, &place)?;
            if set.index(&profile, Some((age, sex))) != Ok(value) {
                return Err(fault(&place, &format!("is not what the table gives for {profile}")));
            }
        }
        Ok(set)
    }

    /// The value of a profile, for a person of an age in years and a sex where the table asks.
    ///
    /// # Errors
    /// Why there is none.
    pub fn index(&self, profile: &str, person: Option<(u32, Sex)>) -> Result<Decimal, NoValue> {
        let found = match &self.content {
            Content::Decrements(table) => {
                let levels = levels(profile).ok_or(NoValue::NotComputable)?;
                let taken = table.iter().zip(levels).filter_map(|(row, level)| row.get(level));
                Some(Decimal::ONE - taken.sum::<Decimal>())
            }
            Content::States(states) => states.get(profile).copied(),
            Content::People(bands) => {
                levels(profile).ok_or(NoValue::NotComputable)?;
                let (age, sex) = person.ok_or(NoValue::AgeAndSexRequired)?;
                let holds = |band: &&Band| {
                    (band.first_age..=band.last_age).contains(&age) && band.sex == sex
                };
                bands.iter().filter(holds).find_map(|band| band.states.get(profile)).copied()
            }
        };
        found.map(|value| value.normalize()).ok_or(NoValue::NotComputable)
    }
}

/// The levels of a profile from 0; `None` when it is none of five levels from 1 to 5.
fn levels(profile: &str) -> Option<[usize; 5]> {
    let digits: [u8; 5] = profile.as_bytes().try_into().ok()?;
    let is_level = digits.iter().all(|digit| (b'1'..=b'5').contains(digit));
    is_level.then(|| digits.map(|digit| usize::from(digit - b'1')))
}

fn decrements(json: &Json, place: &str) -> Result<[[Decimal; 5]; 5], Issue> {
    let mut table = [[Decimal::ZERO; 5]; 5];
    for (row, dimension) in table.iter_mut().zip(DIMENSIONS) {
        for (level, cell) in row.iter_mut().enumerate() {
            let level = (level + 1).to_string();
            let place = format!("{place}.decrements.{dimension}.{level}");
            let value = json.at(&["decrements", dimension, &level]);
            *cell = decimal(value.unwrap_or(&Json::Null), &place)?;
        }
    }
    Ok(table)
}

fn states(json: &Json, place: &str) -> Result<HashMap<String, Decimal>, Issue> {
    let members = json.as_object().filter(|members| members.len() <= MAX_STATES);
    let members = members.ok_or_else(|| fault(place, "must be an object of states"))?;
    let mut states = HashMap::with_capacity(members.len());
    for (profile, value) in members.iter() {
        if levels(profile).is_none() {
            return Err(fault(place, &format!("holds {profile}, which is no state")));
        }
        states.insert(profile.to_owned(), decimal(value, place)?);
    }
    Ok(states)
}

/// Tables by age band and sex, `{"18-34": {"female": {"11111": 1}}}`; without them the check points.
fn people(json: &Json, place: &str) -> Result<Vec<Band>, Issue> {
    let mut bands = Vec::new();
    if let Some(table) = json.get("statesByAgeAndSex").and_then(Json::as_object) {
        let place = join(place, "statesByAgeAndSex");
        for (band, sexes) in table.iter() {
            let (first_age, last_age) = age_band(band, &place)?;
            for (sex, table) in sexes.as_object().into_iter().flat_map(|sexes| sexes.iter()) {
                let place = format!("{place}.{band}.{sex}");
                let sex = Sex::parse(sex).ok_or_else(|| fault(&place, "must be female or male"))?;
                bands.push(Band { first_age, last_age, sex, states: states(table, &place)? });
            }
        }
        return Ok(bands);
    }
    let points = json.list("checkPoints");
    if points.is_empty() {
        return Err(fault(place, "has no table"));
    }
    for (index, point) in points.iter().enumerate() {
        let (profile, age, sex, value) =
            check_point(point, &format!("{place}.checkPoints[{index}]"))?;
        let mut known = (age, age);
        for band in json.list("ageBands").iter().filter_map(Json::as_str) {
            let band = age_band(band, place)?;
            if (band.0..=band.1).contains(&age) {
                known = band;
            }
        }
        let states = HashMap::from([(profile, value)]);
        bands.push(Band { first_age: known.0, last_age: known.1, sex, states });
    }
    Ok(bands)
}

fn age_band(text: &str, place: &str) -> Result<(u32, u32), Issue> {
    let band = text.split_once('-');
    let band = band.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    band.ok_or_else(|| fault(place, &format!("holds {text}, which is no age band such as 18-34")))
}

fn check_point(json: &Json, place: &str) -> Result<(String, u32, Sex, Decimal), Issue> {
    let profile = text(json, "profile", place)?;
    let age = json.get("age").and_then(Json::as_i64).and_then(|age| u32::try_from(age).ok());
    let age = age.ok_or_else(|| fault(&join(place, "age"), "must be a whole number of years"))?;
    let sex = Sex::parse(&text(json, "sex", place)?);
    let sex = sex.ok_or_else(|| fault(&join(place, "sex"), "must be female or male"))?;
    Ok((profile, age, sex, decimal(json.get("value").unwrap_or(&Json::Null), place)?))
}
