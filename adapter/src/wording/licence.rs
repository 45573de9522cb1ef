//! The licence record of a wording pack.

use jiff::ToSpan as _;
use jiff::civil::Date;
use serde::{Deserialize, Deserializer};

/// Days after the licence's last one in which a form that was begun may be finished.
const GRACE: i64 = 14;

/// Under what the wording may be shown.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the schema of wording packs")]
pub struct Licence {
    pub holder: String,
    pub reference: String,
    pub granted_to: String,
    pub scope: Option<String>,
    #[serde(deserialize_with = "date")]
    pub valid_from: Date,
    #[serde(deserialize_with = "date")]
    pub valid_to: Date,
    pub electronic_approved: bool,
}

fn date<'de, D: Deserializer<'de>>(reader: D) -> Result<Date, D::Error> {
    let text = String::deserialize(reader)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// Who runs this service.
#[derive(Clone, Debug, Default)]
pub struct Organisation {
    /// Its name.
    pub name: String,
    /// Its ODS code.
    pub ods_code: String,
}

impl Organisation {
    /// Whether a licence names it, by its name or its ODS code.
    fn is_named(&self, name: &str) -> bool {
        let name = name.trim();
        let same = |own: &str| !own.trim().is_empty() && own.trim().eq_ignore_ascii_case(name);
        same(&self.name) || same(&self.ods_code)
    }

    fn is_known(&self) -> bool {
        !self.name.trim().is_empty() || !self.ods_code.trim().is_empty()
    }
}

/// How a licence stands on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not begun.
    Early,
    /// It is in date.
    Current,
    /// It has ended, a fortnight ago at most: what was begun may be finished.
    Ending,
    /// It has ended.
    Over,
}

impl Licence {
    /// How it stands on a day; its last day is within it.
    pub fn standing(&self, on: Date) -> Standing {
        let last = self.valid_to.checked_add(GRACE.days()).unwrap_or(Date::MAX);
        match () {
            () if on < self.valid_from => Standing::Early,
            () if on <= self.valid_to => Standing::Current,
            () if on <= last => Standing::Ending,
            () => Standing::Over,
        }
    }

    /// The same as part of a sentence.
    pub fn told(&self, on: Date) -> String {
        let Licence { reference, valid_from, valid_to, .. } = self;
        match self.standing(on) {
            Standing::Early => format!("its licence {reference} begins on {valid_from}"),
            Standing::Current => format!("its licence {reference} lasts until {valid_to}"),
            Standing::Ending => format!(
                "its licence {reference} ended on {valid_to}, so nobody new may be asked, and what was begun may be finished within {GRACE} days"
            ),
            Standing::Over => format!("its licence {reference} ended on {valid_to}"),
        }
    }

    /// What keeps it from ever being used here.
    pub(super) fn faults(&self, organisation: &Organisation) -> Vec<String> {
        let mut faults = Vec::new();
        if !organisation.is_known() {
            faults.push(
                "whose licence it is cannot be told: say who runs this service with --organisation or --ods-code"
                    .to_owned(),
            );
        } else if !organisation.is_named(&self.granted_to) {
            faults.push(format!(
                "its licence is granted to {}, which is neither --organisation nor --ods-code of this service",
                self.granted_to
            ));
        }
        if self.valid_to < self.valid_from {
            faults.push(format!(
                "its licence ends on {} and begins on {}",
                self.valid_to, self.valid_from
            ));
        }
        if !self.electronic_approved {
            faults.push(
                "its licence does not allow it on a screen (licence.electronicApproved)".to_owned(),
            );
        }
        faults
    }
}
