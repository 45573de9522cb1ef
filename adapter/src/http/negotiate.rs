//! Content negotiation: <https://hl7.org/fhir/R4/http.html#mime-type>.
//!
//! `_format` is stronger than `Accept`. An answer has the media type that was asked for by name,
//! else FHIR's own. Turtle and HTML are not spoken.

use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use lumbar_fhir::{Issue, IssueType};

use crate::facade::Error;

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Xml,
}

/// A media type that is spoken here.
#[derive(Debug)]
pub struct MediaType {
    /// Its name.
    name: &'static str,
    /// The same as it stands in the header of an answer.
    pub content_type: &'static str,
    /// The format that it means.
    pub format: Format,
}

/// The first of each format is FHIR's own.
static MEDIA_TYPES: [MediaType; 8] = [
    media_type("application/fhir+json", "application/fhir+json; charset=utf-8", Format::Json),
    media_type("application/json", "application/json; charset=utf-8", Format::Json),
    media_type("text/json", "text/json; charset=utf-8", Format::Json),
    media_type("application/fhir+xml", "application/fhir+xml; charset=utf-8", Format::Xml),
    media_type("application/xml", "application/xml; charset=utf-8", Format::Xml),
    media_type("text/xml", "text/xml; charset=utf-8", Format::Xml),
    // The names that DSTU2 had for FHIR's own.
    media_type("application/json+fhir", "application/fhir+json; charset=utf-8", Format::Json),
    media_type("application/xml+fhir", "application/fhir+xml; charset=utf-8", Format::Xml),
];

const fn media_type(name: &'static str, content_type: &'static str, format: Format) -> MediaType {
    MediaType { name, content_type, format }
}

/// The media types of bodies, for people and for the header `Accept` of a 415.
pub const BODIES: &str = "application/fhir+json, application/fhir+xml";
/// The same for the bodies of PATCH, and the header `Accept-Patch`.
pub const PATCHES: &str =
    "application/json-patch+json, application/fhir+json, application/fhir+xml";

/// How an answer is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// In which words.
    pub media_type: &'static MediaType,
    /// Whether with line breaks.
    pub pretty: bool,
    /// Whether FHIR's own media types or `_format` were named: then a Binary is a resource.
    pub is_fhir: bool,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted { media_type: &MEDIA_TYPES[0], pretty: false, is_fhir: false }
    }
}

impl Wanted {
    /// What the headers and the parameters of a request ask for. A Binary can be had in any media
    /// type, so none is refused where `of_binary` is set.
    ///
    /// # Errors
    /// [`Error::NotAcceptable`] when nothing of it is spoken here, [`Error::Unparseable`] when
    /// `_pretty` is no boolean.
    pub fn of(
        headers: &HeaderMap,
        parameters: &[(String, String)],
        of_binary: bool,
    ) -> Result<Wanted, Error> {
        let parameter = |wanted: &str| {
            let mut given = parameters.iter().filter(|(_, value)| !value.is_empty());
            let found = given.find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str())
        };
        let pretty = match parameter("_pretty") {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                let text = "_pretty is true or false, for example _pretty=true.";
                let issue = Issue::error(IssueType::Value, text).at("http._pretty");
                return Err(Error::Unparseable(vec![issue]));
            }
        };
        if let Some(format) = parameter("_format") {
            // A + that was not encoded arrives as a blank.
            let range = Range::read(&format.trim().replace(' ', "+"));
            let found = match range.name.as_str() {
                _ if !range.is_r4 => None,
                "json" => Some(&MEDIA_TYPES[0]),
                "xml" => Some(&MEDIA_TYPES[3]),
                name => by_name(name),
            };
            let media_type = found.ok_or_else(|| {
                let text = "The _format is not offered; write _format=json or _format=xml.";
                let issue = Issue::error(IssueType::NotSupported, text).at("http._format");
                Error::NotAcceptable(issue)
            })?;
            return Ok(Wanted { media_type, pretty, is_fhir: true });
        }
        let ranges: Vec<Range> = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter(|range| !range.trim().is_empty())
            .map(Range::read)
            .collect();
        let plain = Wanted { pretty, ..Wanted::default() };
        if ranges.is_empty() {
            return Ok(plain);
        }
        let is_fhir = ranges.iter().any(|range| range.is_fhir() && range.quality > 0);
        match best(&ranges) {
            Some(media_type) => Ok(Wanted { media_type, pretty, is_fhir }),
            None if of_binary => Ok(plain),
            None => Err(Error::NotAcceptable(Issue::error(
                IssueType::NotSupported,
                "None of the accepted formats is offered; accept application/fhir+json or \
                 application/fhir+xml, in FHIR 4.0.",
            ))),
        }
    }

    /// The format.
    pub fn format(self) -> Format {
        self.media_type.format
    }
}

/// One item of `Accept`: `application/fhir+json; fhirVersion=4.0; q=0.5`.
struct Range {
    name: String,
    /// 0 to 1000.
    quality: u16,
    /// Whether it is content with R4.
    is_r4: bool,
}

impl Range {
    fn read(text: &str) -> Range {
        let mut range = Range { name: kind(text), quality: 1000, is_r4: true };
        for (name, value) in attributes(text) {
            match name.as_str() {
                "q" => {
                    let quality = value.parse().map_or(1.0, |quality: f32| quality.clamp(0.0, 1.0));
                    // In thousandths, the finest that HTTP knows.
                    range.quality = (quality * 1000.0).round() as u16;
                }
                "fhirversion" => range.is_r4 = is_r4(&value),
                _ => {}
            }
        }
        range
    }

    fn is_fhir(&self) -> bool {
        by_name(&self.name).is_some() && self.name.contains("fhir") && self.is_r4
    }
}

/// The media type that the client likes best; of equals the one it names more exactly, then the
/// one it names first, then JSON.
fn best(ranges: &[Range]) -> Option<&'static MediaType> {
    let mut best: Option<(u16, u8, usize, &'static MediaType)> = None;
    for format in [Format::Json, Format::Xml] {
        let Some((media_type, exactness, place, quality)) = liked(ranges, format) else { continue };
        let is_better = best.is_none_or(|(best_quality, best_exactness, best_place, _)| {
            (quality, exactness, best_place) > (best_quality, best_exactness, place)
        });
        if quality > 0 && is_better {
            best = Some((quality, exactness, place, media_type));
        }
    }
    best.map(|(.., media_type)| media_type)
}

/// The range that says most exactly how much a format is liked (RFC 9110, 12.5.1): the media type
/// to answer with, how exact, the range's place and quality.
fn liked(ranges: &[Range], format: Format) -> Option<(&'static MediaType, u8, usize, u16)> {
    let own = if format == Format::Json { &MEDIA_TYPES[0] } else { &MEDIA_TYPES[3] };
    let plain = if format == Format::Json { &MEDIA_TYPES[2] } else { &MEDIA_TYPES[5] };
    let known = ranges.iter().enumerate().filter(|(_, range)| range.is_r4);
    let found = known.filter_map(|(place, range)| {
        let (media_type, exactness) = match range.name.as_str() {
            "*/*" => (own, 0),
            "text/*" => (plain, 1),
            "application/*" => (own, 2),
            name => (by_name(name).filter(|found| found.format == format)?, 3),
        };
        Some((media_type, exactness, place, range.quality))
    });
    found.max_by_key(|(_, exactness, place, quality)| (*exactness, *quality, usize::MAX - place))
}

/// What the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A resource; whether FHIR's own media type says so.
    Resource(Format, bool),
    JsonPatch,
    Form,
    Other,
}

/// Reads the header `Content-Type`; without one a body is JSON.
///
/// # Errors
/// [`Error::UnsupportedMediaType`] for another character set than UTF-8, or another FHIR than R4.
pub fn sent(headers: &HeaderMap) -> Result<Sent, Error> {
    let text = header(headers, &CONTENT_TYPE).unwrap_or_default();
    let name = kind(text);
    let sent = match (name.as_str(), by_name(&name)) {
        ("", _) => Sent::Resource(Format::Json, true),
        ("application/json-patch+json", _) => Sent::JsonPatch,
        ("application/x-www-form-urlencoded", _) => Sent::Form,
        (name, Some(found)) => Sent::Resource(found.format, name.contains("fhir")),
        _ => return Ok(Sent::Other),
    };
    for (name, value) in attributes(text) {
        let text = match name.as_str() {
            "charset" if !["utf-8", "utf8", "us-ascii"].contains(&value.as_str()) => {
                "The character set is not supported; send UTF-8."
            }
            "fhirversion" if !is_r4(&value) => {
                "The version of FHIR is not supported; send resources of R4, fhirVersion=4.0."
            }
            _ => continue,
        };
        return Err(Error::UnsupportedMediaType(Issue::error(IssueType::NotSupported, text)));
    }
    Ok(sent)
}

/// A header as text.
pub fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn by_name(name: &str) -> Option<&'static MediaType> {
    MEDIA_TYPES.iter().find(|media_type| media_type.name == name)
}

/// The media type without its parameters.
fn kind(text: &str) -> String {
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The parameters of a media type, in lower case and without quotes.
fn attributes(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split(';').skip(1).filter_map(|attribute| {
        let (name, value) = attribute.split_once('=')?;
        let value = value.trim().trim_matches('"').to_ascii_lowercase();
        Some((name.trim().to_ascii_lowercase(), value))
    })
}

fn is_r4(version: &str) -> bool {
    matches!(version, "4.0" | "4.0.0" | "4.0.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(values: &[&str]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, value.parse().unwrap());
        }
        Wanted::of(&headers, &[], false).ok().map(|wanted| wanted.media_type.name)
    }

    #[test]
    fn the_best_liked_format_is_chosen() {
        let cases: [(&[&str], Option<&str>); 24] = [
            (&[], Some("application/fhir+json")),
            (&[""], Some("application/fhir+json")),
            (&["*/*"], Some("application/fhir+json")),
            (&["application/*"], Some("application/fhir+json")),
            (&["text/*"], Some("text/json")),
            (&["text/xml"], Some("text/xml")),
            (&["Application/FHIR+XML"], Some("application/fhir+xml")),
            (&["application/fhir+xml, application/fhir+json"], Some("application/fhir+xml")),
            (&["application/fhir+json, application/fhir+xml"], Some("application/fhir+json")),
            (&["application/fhir+json;q=0.5, application/xml;q=0.9"], Some("application/xml")),
            (&["application/fhir+json;q=0.5, */*"], Some("application/fhir+xml")),
            (&["application/fhir+json;q=0, */*;q=0.1"], Some("application/fhir+xml")),
            (&["application/json;q=0.1, application/fhir+json;q=0"], Some("application/json")),
            (&["*/*, application/xml"], Some("application/xml")),
            (
                &["text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8"],
                Some("application/xml"),
            ),
            (&["text/html", "application/json"], Some("application/json")),
            (&["application/fhir+xml; fhirVersion=4.0"], Some("application/fhir+xml")),
            (
                &["application/fhir+xml; fhirVersion=\"4.0\"; charset=utf-8"],
                Some("application/fhir+xml"),
            ),
            (&["application/fhir+xml; fhirVersion=3.0"], None),
            (
                &["application/fhir+xml; fhirVersion=5.0, application/fhir+json; fhirVersion=4.0"],
                Some("application/fhir+json"),
            ),
            (&["text/turtle"], None),
            (&["application/fhir+json;q=0"], None),
            (&["*/*;q=0"], None),
            (&["image/png, text/html"], None),
        ];
        for (values, expected) in cases {
            assert_eq!(accept(values), expected, "{values:?}");
        }
    }
}
