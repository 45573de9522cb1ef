//! Whether an instrument may be given to anybody: what must be there before.
//!
//! Looking for a wording pack or a licence record is left to the caller.

use lumbar_fhir::{Issue, Json};

use crate::instrument::read::{fault, join, optional, text, texts};

/// What must be there before an instrument may be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activation {
    /// Why nobody may ever be asked; nothing is scored either.
    pub refused: Option<String>,
    /// Flag of the result of answers that arrive although it is refused.
    pub flag: Option<String>,
    /// What a site must have; nothing for bundled wording.
    pub needs: Vec<Need>,
}

/// One thing that a site must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The official wording.
    WordingPack,
    /// A record of the licence under which the wording may be shown.
    Licence,
    /// A signed confirmation of the scoring rule or the item list against the licensed material.
    ScoringConfirmation,
}

impl Need {
    const ALL: [Need; 3] = [Need::WordingPack, Need::Licence, Need::ScoringConfirmation];

    /// The word for it.
    pub fn code(self) -> &'static str {
        match self {
            Need::WordingPack => "wording-pack",
            Need::Licence => "licence",
            Need::ScoringConfirmation => "scoring-confirmation",
        }
    }
}

impl Activation {
    pub(crate) fn parse(json: &Json) -> Result<Activation, Issue> {
        let place = "activation";
        let json = json.get(place).ok_or_else(|| fault(place, "is missing"))?;
        let mut needs = Vec::new();
        for code in texts(json, "needs", place)? {
            let need = Need::ALL.into_iter().find(|need| need.code() == code);
            let unknown =
                || fault(&join(place, "needs"), &format!("names {code}, which nobody has"));
            needs.push(need.ok_or_else(unknown)?);
        }
        let refused = json.get("refused").map(|_| text(json, "refused", place)).transpose()?;
        Ok(Activation { refused, flag: optional(json, "flag", place)?, needs })
    }

    /// Whether a site that has `present` may ask.
    pub fn activatable(&self, present: &[Need]) -> bool {
        self.refused.is_none() && self.needs.iter().all(|need| present.contains(need))
    }
}
