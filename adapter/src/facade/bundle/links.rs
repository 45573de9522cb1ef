//! Links between the entries of a transaction: <https://hl7.org/fhir/R4/bundle.html#references>
//! and <https://hl7.org/fhir/R4/http.html#trules>.
//!
//! A link that names an entry by its `fullUrl` becomes a link to what the entry was stored as,
//! wherever the standard says: in references, elements of type uri, url, oid and uuid, and in
//! `href` and `src` of a narrative. Canonicals stay as they are.

use std::collections::{HashMap, HashSet};

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::links::{self, LinkKind, Path};
use lumbar_fhir::rest::is_id;
use lumbar_fhir::validate::broken;
use lumbar_fhir::{Issue, IssueType, Json};

use super::Error;

/// The entries of a transaction by their `fullUrl`s.
pub(super) struct Names<'a> {
    definitions: &'a Definitions,
    base: &'a str,
    by_url: HashMap<&'a str, Vec<Named<'a>>>,
    targets: HashMap<usize, (String, String)>,
}

/// One entry.
struct Named<'a> {
    entry: usize,
    /// `meta.versionId` of its resource, which tells entries with one `fullUrl` apart.
    version: Option<&'a str>,
}

/// One link of a resource that changes.
pub(super) struct Rewrite {
    pub(super) path: Path,
    pub(super) to: To,
}

/// What a link becomes.
pub(super) enum To {
    /// A link to an entry; with `true` to the version that the transaction makes of it.
    Entry(usize, bool),
    /// A link to what this search (`Type?…`) finds, and the element that it stands in.
    Search(String, String),
    /// A narrative with its links.
    Narrative(String),
}

impl<'a> Names<'a> {
    /// Reads the `fullUrl`s.
    ///
    /// # Errors
    /// The entry, and what is wrong with its `fullUrl`.
    pub(super) fn read(
        definitions: &'a Definitions,
        base: &'a str,
        entries: &'a [Json],
    ) -> Result<Names<'a>, (usize, Error)> {
        let mut names =
            Names { definitions, base, by_url: HashMap::new(), targets: HashMap::new() };
        let mut seen = HashSet::new();
        for (entry, json) in entries.iter().enumerate() {
            let Some(full_url) = json.get("fullUrl") else { continue };
            let wrong = |text: &str| {
                let issue = Issue::error(IssueType::Value, text).at("fullUrl");
                (entry, Error::Unparseable(vec![issue]))
            };
            let form = "The fullUrl must be absolute: urn:uuid: and a UUID, or a url as in http://example.org/fhir/Patient/1, without a version.";
            let full_url = full_url.as_str().ok_or_else(|| wrong(form))?;
            let is_absolute = full_url
                .split_once(':')
                .is_some_and(|(scheme, rest)| !scheme.contains('/') && !rest.is_empty());
            if !is_absolute || full_url.contains("/_history/") {
                return Err(wrong(form));
            }
            let resource = json.get("resource");
            let part = |name| resource.and_then(|resource| resource.str_at(&[name]));
            if let (Some((_, of, id)), Some(own), Some(own_id)) =
                (names.instance(full_url), part("resourceType"), part("id"))
                && (of, id) != (own, own_id)
            {
                return Err(wrong(
                    "The fullUrl ends with another type or id than those of the entry's resource; make them equal, or name the entry by a urn:uuid:.",
                ));
            }
            let version = resource.and_then(|resource| resource.str_at(&["meta", "versionId"]));
            if !seen.insert((full_url, version)) {
                let issue = broken("bdl-7").at("fullUrl");
                return Err((entry, Error::Unparseable(vec![issue])));
            }
            names.by_url.entry(full_url).or_default().push(Named { entry, version });
        }
        Ok(names)
    }

    /// Says what an entry is stored as. Entries without a target are not named.
    pub(super) fn target(&mut self, entry: usize, resource_type: &str, id: &str) {
        self.targets.insert(entry, (resource_type.to_owned(), id.to_owned()));
    }

    /// `Type/id` of what an entry is stored as.
    pub(super) fn reference(&self, entry: usize) -> Option<String> {
        self.targets.get(&entry).map(|(of, id)| format!("{of}/{id}"))
    }

    /// Root, type and id of a url of a RESTful server.
    fn instance<'t>(&self, url: &'t str) -> Option<(&'t str, &'t str, &'t str)> {
        let (before, id) = url.rsplit_once('/')?;
        let (root, of) = before.rsplit_once('/')?;
        (self.definitions.is_resource(of) && is_id(id)).then_some((root, of, id))
    }

    /// The entry that a link means, and whether the link names a version. `root` is that of the
    /// `fullUrl` of the entry in which the link stands.
    fn find(&self, text: &str, root: Option<&str>) -> Option<(usize, bool)> {
        let (plain, version) = match text.split_once("/_history/") {
            Some((plain, version)) => (plain, Some(version)),
            None => (text, None),
        };
        let relative = || {
            let is_relative = plain.split('/').count() == 2 && !plain.contains(':');
            root.filter(|_| is_relative).map(|root| format!("{root}/{plain}"))
        };
        let named = match self.by_url.get(plain) {
            Some(named) => named,
            None => self.by_url.get(relative()?.as_str())?,
        };
        let of_version = named.iter().find(|named| version.is_some() && named.version == version);
        let entry = of_version.or(named.last())?.entry;
        // A link to what has its final address already stays as it is.
        let (of, id) = self.targets.get(&entry)?;
        let is_final = links::literal(self.definitions, self.base, text)
            .is_some_and(|own| (own.resource_type, own.id) == (of, id));
        (version.is_some() || !is_final).then_some((entry, version.is_some()))
    }

    /// The links of a resource that change, `full_url` being that of its entry.
    ///
    /// # Errors
    /// A reference by a urn that no entry has.
    pub(super) fn rewrites(
        &self,
        resource: &Json,
        full_url: Option<&str>,
    ) -> Result<Vec<Rewrite>, Error> {
        let root = full_url.and_then(|url| self.instance(url)).map(|(root, ..)| root);
        let mut rewrites = Vec::new();
        let mut unknown = None;
        links::visit(self.definitions, resource, &mut |link, place| {
            let to = match link.kind {
                LinkKind::Uri => self.find(link.text, None).map(|(entry, at)| To::Entry(entry, at)),
                LinkKind::Narrative => self.narrative(link.text, root).map(To::Narrative),
                LinkKind::Reference => match self.find(link.text, root) {
                    Some((entry, version)) => Some(To::Entry(entry, version)),
                    None => {
                        let is_urn =
                            link.text.starts_with("urn:uuid:") || link.text.starts_with("urn:oid:");
                        if is_urn && unknown.is_none() {
                            unknown = Some(place.expression());
                        }
                        link.text
                            .split_once('?')
                            .filter(|(of, _)| self.definitions.is_resource(of))
                            .map(|_| To::Search(link.text.to_owned(), place.expression()))
                    }
                },
            };
            rewrites.extend(to.map(|to| Rewrite { path: place.path(), to }));
        });
        match unknown {
            None => Ok(rewrites),
            Some(expression) => Err(Error::Unparseable(vec![
                Issue::error(
                    IssueType::NotFound,
                    "A reference names an entry by its urn, but no entry of the Bundle that is stored has this fullUrl.",
                )
                .at(expression),
            ])),
        }
    }

    /// A narrative with `href` and `src` that name an entry rewritten; `None` when none does.
    fn narrative(&self, div: &str, root: Option<&str>) -> Option<String> {
        let mut out = String::new();
        let mut rest = div;
        while let Some(at) = rest.find('=') {
            let (before, after) = rest.split_at(at + 1);
            out.push_str(before);
            rest = after;
            let attribute = before.trim_end_matches('=').trim_end();
            let blanks = after.len() - after.trim_start().len();
            let Some(quote) = after.trim_start().chars().next().filter(|c| matches!(c, '"' | '\''))
            else {
                continue;
            };
            if !attribute.ends_with("href") && !attribute.ends_with("src") {
                continue;
            }
            let (opening, value) = after.split_at(blanks + 1);
            let (value, end) = value.split_at(value.find(quote).unwrap_or(value.len()));
            out.push_str(opening);
            let reference = self.find(value, root).and_then(|(entry, _)| self.reference(entry));
            out.push_str(reference.as_deref().unwrap_or(value));
            rest = end;
        }
        out.push_str(rest);
        (out != div).then_some(out)
    }
}
