//! Moments as HTTP writes them: RFC 9110, 5.6.7.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use lumbar_fhir::datetime::Micros;

/// The form that is written, and the two old ones that must be read.
const FORMS: [&str; 3] =
    ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// `Mon, 02 Mar 2026 10:42:00 GMT`.
pub fn http_date(moment: Micros) -> String {
    let moment = Timestamp::from_microsecond(moment).unwrap_or_default();
    moment.strftime(FORMS[0]).to_string()
}

/// The moment that a header names, in whole seconds since 1970; `None` when it cannot be read.
pub fn read_http_date(text: &str) -> Option<i64> {
    let read = |form| DateTime::strptime(form, text.trim()).ok()?.to_zoned(TimeZone::UTC).ok();
    FORMS.iter().find_map(read).map(|moment| moment.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_are_read() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(read_http_date(text), Some(784_111_777), "{text}");
        }
        assert_eq!(http_date(784_111_777_999_999), "Sun, 06 Nov 1994 08:49:37 GMT");
        for text in ["", "yesterday", "1994-11-06", "Sun, 31 Feb 1994 08:49:37 GMT"] {
            assert_eq!(read_http_date(text), None, "{text}");
        }
    }
}
