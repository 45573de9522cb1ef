//! Wording packs: the official words of an instrument, which a site supplies under a licence of its
//! own (`--wording`), and in what words a person may be asked.
//!
//! A pack stays in the memory of the process. It is never stored, exported or logged: what is told
//! of one names its file, the instrument and the licence, and none of its words. One that cannot be
//! used is left out as a whole, and the reason is told.

mod files;
mod licence;
mod pack;

use std::path::PathBuf;

use jiff::civil::Date;
use lumbar_fhir::Json;

use crate::rules::Rules;
pub use licence::{Licence, Organisation, Standing};
pub use pack::Pack;

/// The extension of a Questionnaire that says whether it needs a pack.
const WORDING_PACK: &str = "https://lumbar.example/fhir/StructureDefinition/wording-pack";
/// The extension of a Questionnaire that says why nobody may be asked by it.
const NOT_ACTIVATABLE: &str = "https://lumbar.example/fhir/StructureDefinition/not-activatable";
/// The extension that holds a text in another language.
const TRANSLATION: &str = "http://hl7.org/fhir/StructureDefinition/translation";

/// What somebody is to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To begin: a new assignment.
    Begin,
    /// To go on with what was begun.
    Finish,
}

/// The packs of the site.
#[derive(Debug, Default)]
pub struct Wording {
    packs: Vec<Pack>,
    /// Why others cannot be used, each with its place.
    pub refused: Vec<String>,
}

impl Wording {
    /// Reads what lies on the paths: files, and folders with all files `.json` below them.
    pub fn load(paths: &[PathBuf], rules: &Rules, organisation: &Organisation) -> Wording {
        let mut wording = Wording::default();
        let (texts, mut refused) = files::read(paths);
        for (place, text) in texts {
            let pack = Pack::read(&text).and_then(|pack| {
                let form = rules.questionnaires.iter().find(|form| pack.is_of(form));
                let faults = pack.faults(form, organisation);
                if faults.is_empty() { Ok(pack) } else { Err(faults) }
            });
            match pack {
                Ok(pack) => wording.packs.push(pack),
                Err(faults) => refused.push(format!("{place}: {}", faults.join("; "))),
            }
        }
        wording.refused = refused;
        wording
    }

    /// The packs that can be used as long as their licences last.
    pub fn packs(&self) -> &[Pack] {
        &self.packs
    }

    /// Why nobody may be asked by a Questionnaire on that day, in a sentence; `None` when one may.
    pub fn refusal(&self, form: &Json, on: Date, purpose: Purpose) -> Option<String> {
        self.choose(form, None, on, purpose).err()
    }

    /// The Questionnaire as a person is asked by it: in the words of the pack, else, where the words
    /// are free, in its own, and these in the language that is asked for if it has them. Its
    /// `language` says which one it is.
    ///
    /// # Errors
    /// A sentence: why nobody may be asked by it, or not in that language.
    pub fn words(
        &self,
        form: &Json,
        language: Option<&str>,
        on: Date,
        purpose: Purpose,
    ) -> Result<Json, String> {
        Ok(match self.choose(form, language, on, purpose)? {
            Some(pack) => pack.word(form),
            None => translated(form, language.unwrap_or_default()),
        })
    }

    /// The pack whose words are to be used; `None` when the Questionnaire's own may be.
    fn choose(
        &self,
        form: &Json,
        language: Option<&str>,
        on: Date,
        purpose: Purpose,
    ) -> Result<Option<&Pack>, String> {
        let title = form.str_at(&["title"]).unwrap_or("This questionnaire");
        let extension =
            |url: &str| form.list("extension").iter().find(|e| e.str_at(&["url"]) == Some(url));
        if let Some(reason) = extension(NOT_ACTIVATABLE) {
            let reason = reason.str_at(&["valueString"]).unwrap_or("its definition is refused");
            return Err(format!("{title} cannot be put to anybody: {reason}"));
        }
        let is_required = extension(WORDING_PACK)
            .is_some_and(|extension| extension.str_at(&["valueCode"]) == Some("required"));
        let of_form: Vec<&Pack> = self.packs.iter().filter(|pack| pack.words_of(form)).collect();
        let usable = |pack: &&Pack| match pack.licence.standing(on) {
            Standing::Current => true,
            Standing::Ending => purpose == Purpose::Finish,
            Standing::Early | Standing::Over => false,
        };
        let current: Vec<&Pack> = of_form.iter().copied().filter(usable).collect();
        let found = match language {
            Some(language) => best(&current, language),
            None => best(&current, "en").or(current.first().copied()),
        };
        if found.is_some() || !is_required {
            return Ok(found);
        }
        let id = form.str_at(&["id"]).unwrap_or_default();
        let version = form.str_at(&["version"]).unwrap_or_default();
        let why = match (current.first(), of_form.first(), language) {
            (Some(_), _, Some(language)) => {
                let known: Vec<&str> = current.iter().map(|pack| pack.language.as_str()).collect();
                format!("the wording packs in use are in {}, not in {language}", known.join(", "))
            }
            (None, Some(pack), _) => pack.licence.told(on),
            _ => format!(
                "no wording pack for {id} {version} is in use here: add one with --wording PATH, and lumbar check says whether it can be used"
            ),
        };
        Err(format!("{title} may be put to a person in its official wording only; {why}."))
    }
}

/// The pack in a language (<https://www.rfc-editor.org/rfc/rfc4647>): the same, else a wider one,
/// else a narrower one. Of two, the one whose licence lasts longer.
fn best<'p>(packs: &[&'p Pack], language: &str) -> Option<&'p Pack> {
    let fit =
        |pack: &&&Pack| fits(&pack.language, language).map(|fit| (fit, pack.licence.valid_to));
    packs.iter().filter(|pack| fit(pack).is_some()).max_by_key(fit).copied()
}

/// How well a language fits the one that is asked for; `None` when it does not.
fn fits(has: &str, asked: &str) -> Option<u8> {
    let (has, asked) = (has.to_ascii_lowercase(), asked.to_ascii_lowercase());
    let within = |narrow: &str, wide: &str| {
        narrow.strip_prefix(wide).is_some_and(|rest| rest.starts_with('-'))
    };
    match () {
        () if has == asked => Some(2),
        () if within(&asked, &has) => Some(1),
        () if within(&has, &asked) => Some(0),
        () => None,
    }
}

/// The Questionnaire in a language that its own texts are translated into
/// (<https://hl7.org/fhir/R4/extension-translation.html>); in its own where they are not.
fn translated(form: &Json, language: &str) -> Json {
    let own = form.str_at(&["language"]).unwrap_or_default();
    let mut known: Vec<&str> = Vec::new();
    languages(form, &mut known);
    let found = known.iter().filter_map(|of| Some((fits(of, language)?, *of))).max();
    let Some((_, found)) = found.filter(|_| fits(own, language).is_none()) else {
        return form.clone();
    };
    let mut form_in = translate(form, found);
    form_in.set("language", found);
    form_in
}

fn languages<'j>(json: &'j Json, known: &mut Vec<&'j str>) {
    match json {
        Json::Array(values) => values.iter().for_each(|value| languages(value, known)),
        Json::Object(members) => {
            if json.str_at(&["url"]) == Some(TRANSLATION)
                && let Some((language, _)) = translation(json)
                && !known.contains(&language)
            {
                known.push(language);
            }
            members.iter().for_each(|(_, value)| languages(value, known));
        }
        _ => {}
    }
}

fn without_translations(sibling: &Json) -> Json {
    let mut rest = sibling.clone();
    if let Some(members) = rest.as_object_mut()
        && let Some(Json::Array(mut extensions)) = members.remove("extension")
    {
        extensions.retain(|extension| extension.str_at(&["url"]) != Some(TRANSLATION));
        if !extensions.is_empty() {
            members.set("extension", extensions);
        }
    }
    rest
}

/// Language and text of the extension.
fn translation(extension: &Json) -> Option<(&str, &str)> {
    let part = |name: &str, value: &str| {
        let mut parts = extension.list("extension").iter();
        parts.find(|part| part.str_at(&["url"]) == Some(name))?.str_at(&[value])
    };
    let text = part("content", "valueString").or_else(|| part("content", "valueMarkdown"))?;
    Some((part("lang", "valueCode")?, text))
}

/// The same with the texts of a language. The depth of what was read is bounded by the reader.
fn translate(json: &Json, language: &str) -> Json {
    match json {
        Json::Array(values) => {
            Json::Array(values.iter().map(|value| translate(value, language)).collect())
        }
        Json::Object(members) => {
            let mut out = lumbar_fhir::Object::new();
            for (name, value) in members.iter() {
                if name.starts_with('_') && value.as_object().is_some() {
                    let rest = without_translations(value);
                    if rest.as_object().is_some_and(|members| !members.is_empty()) {
                        out.set(name, rest);
                    }
                    continue;
                }
                let sibling = members.get(&format!("_{name}"));
                let texts = sibling.map_or(&[][..], |sibling| sibling.list("extension"));
                let of_language = |extension: &Json| {
                    let (of, text) = translation(extension)?;
                    (of == language).then(|| text.to_owned())
                };
                match texts.iter().find_map(of_language) {
                    Some(text) => out.set(name, text),
                    None => out.set(name, translate(value, language)),
                }
            }
            Json::Object(out)
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
