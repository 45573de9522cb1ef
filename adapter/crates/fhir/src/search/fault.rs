//! Why a search parameter cannot be used: <https://hl7.org/fhir/R4/search.html#errors>.

use crate::{Issue, IssueType};

/// Why a parameter cannot be used. Whoever reads the search says which parameter it was
/// (`Issue::expression`); the text may name a part of it.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is not known here: ignored unless handling is strict.
    Unknown(Issue),
    /// It is known and cannot be read.
    Value(Issue),
}

impl Fault {
    /// There is no such parameter.
    pub(super) fn unknown(text: String) -> Fault {
        Fault::Unknown(Issue::error(IssueType::NotSupported, text))
    }

    /// The value of `name` has not the form that is shown.
    pub(super) fn expected(name: &str, form: &str) -> Fault {
        let text =
            format!("The value of the search parameter {name} cannot be read; expected is {form}.");
        Fault::Value(Issue::error(IssueType::Value, text))
    }

    /// What is asked for is not offered.
    pub(super) fn unsupported(text: String) -> Fault {
        Fault::Value(Issue::error(IssueType::NotSupported, text))
    }

    /// More is asked for than the limits allow.
    pub(super) fn too_costly(text: String) -> Fault {
        Fault::Value(Issue::error(IssueType::TooCostly, text))
    }

    /// A name or value is longer than the limit.
    pub(super) fn too_long(text: String) -> Fault {
        Fault::Value(Issue::error(IssueType::TooLong, text))
    }
}
