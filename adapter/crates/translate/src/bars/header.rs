//! The headers of a BaRS request, written and read:
//! <https://digital.nhs.uk/developer/api-catalogue/booking-and-referral-fhir#post-/$process-message>.
//!
//! The token for the proxy is the sender's matter and is not made here.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use lumbar_fhir::{Json, json};

use super::{DOS_SERVICE_ID, ODS_CODE, Settings, VERSION, uuid};

/// Names of the headers that [`headers`] writes, in its order.
pub const REQUEST_HEADERS: [&str; 7] = [
    "Accept",
    "Content-Type",
    "X-Request-Id",
    "X-Correlation-Id",
    "NHSD-Target-Identifier",
    "NHSD-End-User-Organisation",
    "NHSD-Requesting-Software",
];

const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// The headers of one request, besides the proxy's token.
///
/// `request` names the request: the id of the message Bundle, or the query of a search together
/// with what makes this search one of its own. Equal names give an equal X-Request-Id, so a retry
/// repeats it. `matched` is the request that the journey is about; see [`correlation_id`].
pub fn headers(
    request: &str,
    matched: &Json,
    settings: &Settings<'_>,
) -> Vec<(&'static str, String)> {
    let target = json!({
        "value": (settings.receiver.dos_service_id),
        "system": (DOS_SERVICE_ID)
    });
    let organization = json!({
        "resourceType": "Organization",
        "identifier": [{"value": (settings.sender.ods_code), "system": (ODS_CODE)}],
        "name": (settings.sender.name)
    });
    let software = json!({
        "resourceType": "Device",
        "deviceName": [{"name": (settings.software), "type": "user-friendly-name"}],
        "version": [{"value": (settings.software_version)}]
    });
    let values = [
        format!("application/fhir+json; version={VERSION}"),
        "application/fhir+json".to_owned(),
        uuid(&["request", settings.base, request]),
        correlation_id(settings.base, matched),
        encoded(&target),
        encoded(&organization),
        encoded(&software),
    ];
    REQUEST_HEADERS.into_iter().zip(values).collect()
}

/// The X-Correlation-Id of everything that is said about one matched ServiceRequest: its referral,
/// the search for a place and the booking. An answer that carries it belongs to that request.
pub fn correlation_id(base: &str, matched: &Json) -> String {
    uuid(&["correlation", base, &super::key(matched)])
}

fn encoded(value: &Json) -> String {
    STANDARD.encode(value.to_string())
}

/// JSON in Base64; letters of the URL-safe alphabet and missing padding are read too.
pub(super) fn decoded(text: &str) -> Option<Json> {
    let text = text.trim();
    let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()?;
    Json::parse(&bytes).ok()
}

/// The value of a header; names are compared without case.
pub(super) fn value<'a>(headers: &[(&'a str, &'a str)], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
    let value = value.trim();
    (!value.is_empty()).then_some(value)
}
