//! The labels of an instrument of our own in another language.

use lumbar_fhir::{Issue, Json};

use crate::instrument::read::{fault, join, text};
use crate::instrument::{Instrument, ItemKind};

/// One language of one instrument: `translation-<language>.json` beside its table.
#[derive(Clone, Debug)]
pub struct Translation {
    /// BCP 47.
    pub language: String,
    /// What a reader must know of it, such as that nobody has reviewed it yet.
    pub review: String,
    pub(super) title: Option<String>,
    items: Vec<Words>,
}

/// The words of one item.
#[derive(Clone, Debug)]
struct Words {
    link_id: String,
    text: String,
    /// Code and words of each option.
    options: Vec<(String, String)>,
}

impl Translation {
    /// Reads a translation of `instrument`.
    ///
    /// # Errors
    /// The first fault, with its place: an item or option without words, words for one that is not
    /// there, or labels that are not ours.
    pub fn parse(json: &Json, instrument: &Instrument) -> Result<Translation, Issue> {
        if instrument.about.licence.status != "own" {
            return Err(fault("", "stands beside an instrument whose words are not ours"));
        }
        let mut translation = Translation {
            language: text(json, "language", "")?,
            review: text(json, "review", "")?,
            title: Some(text(json, "title", "")?),
            items: Vec::new(),
        };
        let known = |link_id: &str| instrument.items.iter().find(|item| *item.link_id == *link_id);
        let members = json.get("items").and_then(Json::as_object);
        for (link_id, item) in members.into_iter().flat_map(|items| items.iter()) {
            let place = join("items", link_id);
            let codes: Vec<&str> = match known(link_id).map(|item| &item.kind) {
                None => return Err(fault(&place, "is no item of the instrument")),
                Some(ItemKind::Choice(set)) => set.options.iter().map(|o| &*o.code).collect(),
                Some(_) => Vec::new(),
            };
            let mut options = Vec::new();
            for code in &codes {
                let words = item.str_at(&["options", code]);
                let words =
                    words.ok_or_else(|| fault(&place, &format!("has no word for {code}")))?;
                options.push(((*code).to_owned(), words.to_owned()));
            }
            let stated = item.get("options").and_then(Json::as_object);
            if stated.map_or(0, |options| options.len()) != codes.len() {
                return Err(fault(&place, "has words for options that are not there"));
            }
            let text = text(item, "text", &place)?;
            translation.items.push(Words { link_id: link_id.to_owned(), text, options });
        }
        match instrument.items.iter().find(|item| translation.text(&item.link_id).is_none()) {
            Some(item) => Err(fault("items", &format!("has no words for {}", item.link_id))),
            None => Ok(translation),
        }
    }

    pub(super) fn text(&self, link_id: &str) -> Option<&str> {
        self.words(link_id).map(|words| words.text.as_str())
    }

    pub(super) fn option(&self, link_id: &str, code: &str) -> Option<&str> {
        let mut options = self.words(link_id)?.options.iter();
        options.find(|(of, _)| of == code).map(|(_, text)| text.as_str())
    }

    fn words(&self, link_id: &str) -> Option<&Words> {
        self.items.iter().find(|words| words.link_id == link_id)
    }
}
