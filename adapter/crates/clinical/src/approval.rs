//! Who took responsibility for a clinical rule.
//!
//! An instrument carries a member `approval`; a FHIR resource carries the extension
//! [`EXTENSION`] with the same parts. The hash is that of the approved file without its approval;
//! comparing it with the file is left to whoever reads files.

use lumbar_fhir::{Issue, IssueType, Json};

/// The extension that holds the approval of a resource.
pub const EXTENSION: &str = "https://lumbar.example/fhir/StructureDefinition/approval";

/// Whether a clinician has signed a rule set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Nobody has: what follows from it is shown as unapproved and never drives an automatic step.
    Unapproved,
    /// Somebody has.
    Approved {
        /// Name and role of the clinician.
        who: String,
        /// Date of the signature.
        when: String,
        /// The version that was signed.
        version: String,
        /// SHA-256 of the signed file in lower-case hexadecimal digits.
        hash: String,
    },
}

impl Approval {
    /// Reads `{"status": "unapproved"}` or `{"status": "approved", "who", "when", "version",
    /// "hash"}` of a rule set of version `version`.
    ///
    /// # Errors
    /// Another status, a missing part, or a signature under another version.
    pub fn parse(json: &Json, version: &str) -> Result<Approval, Issue> {
        let fault = |text: &str| Issue::error(IssueType::Structure, text).at("approval");
        let part = |name: &str| {
            let text = json.str_at(&[name]).filter(|text| !text.is_empty());
            text.map(str::to_owned)
                .ok_or_else(|| fault("An approval needs who, when, version, hash."))
        };
        match json.str_at(&["status"]) {
            Some("unapproved") => Ok(Approval::Unapproved),
            Some("approved") => {
                let approval = Approval::Approved {
                    who: part("who")?,
                    when: part("when")?,
                    version: part("version")?,
                    hash: part("hash")?,
                };
                if part("version")? != version {
                    return Err(fault("The approval was given for another version."));
                }
                Ok(approval)
            }
            _ => Err(fault("The approval's status must be approved or unapproved.")),
        }
    }

    /// Reads the extension [`EXTENSION`] of a resource; without one it is unapproved.
    ///
    /// # Errors
    /// As [`Approval::parse`].
    pub fn of_resource(resource: &Json, version: &str) -> Result<Approval, Issue> {
        let found =
            resource.list("extension").iter().find(|e| e.str_at(&["url"]) == Some(EXTENSION));
        let Some(extension) = found else { return Ok(Approval::Unapproved) };
        let mut block = lumbar_fhir::Object::new();
        for part in extension.list("extension") {
            let value = ["valueCode", "valueString", "valueDate"].iter().find_map(|n| part.get(n));
            if let (Some(name), Some(value)) = (part.str_at(&["url"]), value) {
                block.set(name, value);
            }
        }
        Approval::parse(&Json::Object(block), version)
    }

    /// Whether somebody has signed.
    pub fn is_approved(&self) -> bool {
        matches!(self, Approval::Approved { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lumbar_fhir::json;

    #[test]
    fn a_signature_counts_for_its_own_version_only() {
        let block = json!({"status": "approved", "who": "A. Clinician, physiotherapist",
            "when": "2026-03-02", "version": "1.0.0", "hash": "00ff"});
        assert!(Approval::parse(&block, "1.0.0").unwrap().is_approved());
        assert!(Approval::parse(&block, "1.0.1").is_err());
        assert!(Approval::parse(&json!({"status": "approved"}), "1.0.0").is_err());
        assert!(Approval::parse(&json!({}), "1.0.0").is_err());
        assert!(!Approval::of_resource(&json!({}), "1.0.0").unwrap().is_approved());
    }
}
