//! Transaction: <https://hl7.org/fhir/R4/http.html#trules>.
//!
//! One unit of work: all of it is stored or nothing. Deletes come first, then creates, then updates
//! and patches, whatever the order of the entries; conditions see what came before them. Reads come
//! last and see what was stored. A read that fails makes the transaction fail, but for operations,
//! which are performed once, after the commit.

use std::collections::{HashMap, HashSet};

use lumbar_fhir::rest::{Interaction, Target, decode_pairs};
use lumbar_fhir::{Issue, IssueType, Json};

use super::links::{Names, Rewrite, To};
use super::{Entry, Error, Facade, Preferences, Room, Success, each, error_answer, of_entry};
use crate::facade::Reply;
use crate::facade::unit::{Committed, Unit};
use crate::security::Caller;

/// What one entry does.
struct Step {
    entry: Entry,
    full_url: Option<String>,
    /// Type of what is written.
    resource_type: String,
    /// The ids of what is written: one, or those that a condition deletes.
    ids: Vec<String>,
    created: bool,
}

/// A resource that is to be put, and the links in it that change.
struct Write {
    step: usize,
    resource: Json,
    rewrites: Vec<Rewrite>,
}

impl Facade {
    pub(super) async fn transaction(
        &self,
        caller: &Caller,
        entries: &[Json],
        prefer: Preferences,
    ) -> Result<Vec<Json>, Error> {
        let mut steps = Vec::with_capacity(entries.len());
        for (index, json) in entries.iter().enumerate() {
            let entry = self.entry(json).map_err(|error| of_entry(error, index))?;
            steps.push(Step::new(entry, json));
        }
        let definitions = self.definitions();
        let mut names = Names::read(&definitions, &self.base, entries)
            .map_err(|(index, error)| of_entry(error, index))?;
        let mut unit = Unit::new(self);
        let updates = steps.iter().filter_map(|step| match &step.entry.interaction {
            Interaction::Update { resource, .. } => Some(resource),
            _ => None,
        });
        unit.prefetch(updates).await?;
        let mut writes = self.targets(&mut unit, &mut steps).await?;
        for (index, step) in steps.iter().enumerate() {
            if let ([id], false) = (step.ids.as_slice(), step.deletes()) {
                names.target(index, &step.resource_type, id);
            }
        }
        for write in &mut writes {
            let full_url = steps.get(write.step).and_then(|step| step.full_url.as_deref());
            write.rewrites = names
                .rewrites(&write.resource, full_url)
                .map_err(|error| of_entry(error, write.step))?;
        }
        self.apply(&mut unit, &mut steps, &names, writes).await?;
        if let Some((name, issue)) = unit.broken_references().await?.into_iter().next() {
            return Err(of_step(&steps, &name, Error::Invalid(vec![issue])));
        }
        if let Some((name, issue)) = unit.referenced_deletion().await? {
            return Err(of_step(&steps, &name, Error::Refused(issue)));
        }
        self.look_ahead(caller, &mut unit, &steps, prefer).await?;
        let committed = unit.commit().await?;
        let mut answers = Vec::with_capacity(steps.len());
        let mut room = Room::new(self.policy.limits.response_bytes);
        for (index, step) in steps.iter().enumerate() {
            let answer = self.step_answer(caller, index, step, &committed, &mut room, prefer);
            answers.push(answer.await?);
        }
        Ok(answers)
    }

    /// Performs the deletes and finds what the other entries write, in the order of the standard.
    async fn targets(&self, unit: &mut Unit<'_>, steps: &mut [Step]) -> Result<Vec<Write>, Error> {
        // Conditions must see what other entries are going to write.
        let preview = steps.iter().any(Step::has_condition);
        let mut taken = HashSet::new();
        let mut writes = Vec::new();
        for phase in [Phase::Delete, Phase::Create, Phase::Update] {
            for (index, step) in steps.iter_mut().enumerate() {
                if step.phase() != Some(phase) {
                    continue;
                }
                let resource = step
                    .target(self, unit, &mut taken)
                    .await
                    .map_err(|error| of_entry(error, index))?;
                if let (Some(resource), [id]) = (resource, step.ids.as_slice()) {
                    if preview {
                        unit.preview(&step.resource_type, id, resource.clone());
                    }
                    unit.preview_artefact(&step.resource_type, id, &resource);
                    writes.push(Write { step: index, resource, rewrites: Vec::new() });
                }
            }
        }
        Ok(writes)
    }

    /// Puts the resources, each with its links as they will be.
    async fn apply(
        &self,
        unit: &mut Unit<'_>,
        steps: &mut [Step],
        names: &Names<'_>,
        writes: Vec<Write>,
    ) -> Result<(), Error> {
        let to_version = |rewrite: &Rewrite| matches!(rewrite.to, To::Entry(_, true));
        // Which version a resource will have is known once it is put, so links to versions wait.
        let (later, first): (Vec<Write>, Vec<Write>) =
            writes.into_iter().partition(|write| write.rewrites.iter().any(to_version));
        let mut waiting: HashSet<usize> = later.iter().map(|write| write.step).collect();
        let mut expected = HashSet::new();
        let mut found = HashMap::new();
        let room = Room::new(self.policy.limits.response_bytes);
        for Write { step: index, mut resource, rewrites } in first.into_iter().chain(later) {
            room.in_time().map_err(|error| of_entry(error, index))?;
            waiting.remove(&index);
            for Rewrite { path, to } in rewrites {
                let text = match to {
                    To::Narrative(text) => text,
                    To::Search(search, place) => match found.get(&search) {
                        Some(reference) => String::clone(reference),
                        None => {
                            let reference = only(unit, &search).await.map_err(|error| {
                                let error = each(error, &|issue| issue.at(place.as_str()));
                                of_entry(error, index)
                            })?;
                            found.insert(search, reference.clone());
                            reference
                        }
                    },
                    To::Entry(entry, is_versioned) => {
                        let reference = names.reference(entry).unwrap_or_default();
                        match (is_versioned, steps.get(entry)) {
                            (true, Some(step)) => {
                                let is_waiting = waiting.contains(&entry);
                                if is_waiting {
                                    expected.insert(entry);
                                }
                                let id = step.ids.first().map_or("", String::as_str);
                                let version =
                                    unit.next_version(&step.resource_type, id, is_waiting).await?;
                                format!("{reference}/_history/{version}")
                            }
                            _ => reference,
                        }
                    }
                };
                if let Some(place) = path.find_mut(&mut resource) {
                    *place = text.into();
                }
            }
            let Some(step) = steps.get_mut(index) else { continue };
            let id = step.ids.first().cloned().unwrap_or_default();
            let of = step.resource_type.as_str();
            let result = if matches!(step.entry.interaction, Interaction::Create { .. }) {
                step.created = true;
                unit.create(of, &id, resource).await
            } else if expected.contains(&index) {
                // Somebody refers to the version that this makes, so it must be made.
                let exists = unit.version(of, &id).await?.exists;
                step.created = !exists;
                let checked = unit.check(of, &id, &resource).await;
                checked.map(|()| unit.put(of, &id, resource))
            } else {
                unit.update(resource).await.map(|created| step.created = created)
            };
            result.map_err(|error| of_entry(error, index))?;
        }
        Ok(())
    }

    /// Looks whether the reads can be answered, before anything is stored.
    async fn look_ahead(
        &self,
        caller: &Caller,
        unit: &mut Unit<'_>,
        steps: &[Step],
        prefer: Preferences,
    ) -> Result<(), Error> {
        let mut room = Room::new(self.policy.limits.response_bytes);
        for (index, step) in steps.iter().enumerate() {
            let interaction = &step.entry.interaction;
            if step.entry.reads() && room.is_full() {
                return Err(of_entry(room.error(), index));
            }
            room.in_time().map_err(|error| of_entry(error, index))?;
            let result = match interaction {
                Interaction::Read { resource_type, id, .. } => {
                    let target = Target::Id(id.clone());
                    unit.one(resource_type, &target).await.map(|_| ())
                }
                Interaction::Vread { resource_type, id, .. }
                | Interaction::History {
                    resource_type: Some(resource_type), id: Some(id), ..
                } if unit.changes(resource_type, id) => Ok(()),
                Interaction::Vread { .. }
                | Interaction::History { .. }
                | Interaction::Search { .. }
                | Interaction::Capabilities { .. } => {
                    let reply = Box::pin(self.perform(caller, interaction, prefer)).await;
                    reply.map(|reply| drop(room.taken(reply)))
                }
                _ => Ok(()),
            };
            result.map_err(|error| of_entry(error, index))?;
        }
        Ok(())
    }

    async fn step_answer(
        &self,
        caller: &Caller,
        index: usize,
        step: &Step,
        committed: &Committed,
        room: &mut Room,
        prefer: Preferences,
    ) -> Result<Json, Error> {
        let of = &step.resource_type;
        let reply = match (step.phase(), step.ids.as_slice()) {
            (None, _) if room.is_full() => return Ok(error_answer(&of_entry(room.error(), index))),
            (None, _) => {
                if let Err(error) = room.in_time() {
                    return Ok(error_answer(&of_entry(error, index)));
                }
                // Boxed because a Bundle's entry is performed like any request.
                match Box::pin(self.perform(caller, &step.entry.interaction, prefer)).await {
                    Ok(reply) => reply,
                    Err(error) => return Ok(error_answer(&of_entry(error, index))),
                }
            }
            (Some(Phase::Delete), ids) => self.deleted(of, ids, committed, prefer).await?,
            (Some(_), [id]) => match committed.find(of, id) {
                Some(stored) => {
                    let success = if step.created { Success::Created } else { Success::Ok };
                    self.written(success, stored, &committed.issues_of(of, id), prefer)
                }
                None => {
                    let reply = self.read(of, id).await?;
                    let location = reply.version.map(|version| self.location(of, id, version));
                    self.shaped(Reply { location, ..reply }, &committed.issues_of(of, id), prefer)
                }
            },
            (Some(_), _) => return Err(Error::Internal),
        };
        Ok(self.entry_answer(&step.entry, room.taken(reply), prefer))
    }
}

/// The same error, naming the entry that writes this resource.
fn of_step(steps: &[Step], (of, id): &(String, String), error: Error) -> Error {
    let mut writers = steps.iter().map(|step| step.resource_type == *of && step.ids.contains(id));
    match writers.position(|is_writer| is_writer) {
        Some(index) => of_entry(error, index),
        None => error,
    }
}

/// The phases in which a transaction writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Delete,
    Create,
    /// Updates and patches.
    Update,
}

impl Step {
    fn new(entry: Entry, json: &Json) -> Step {
        let resource_type = match &entry.interaction {
            Interaction::Create { resource, .. } | Interaction::Update { resource, .. } => {
                resource.str_at(&["resourceType"]).unwrap_or_default()
            }
            Interaction::Patch { resource_type, .. }
            | Interaction::Delete { resource_type, .. } => resource_type,
            _ => "",
        };
        Step {
            resource_type: resource_type.to_owned(),
            full_url: json.str_at(&["fullUrl"]).map(str::to_owned),
            entry,
            ids: Vec::new(),
            created: false,
        }
    }

    fn phase(&self) -> Option<Phase> {
        match self.entry.interaction {
            Interaction::Delete { .. } => Some(Phase::Delete),
            Interaction::Create { .. } => Some(Phase::Create),
            Interaction::Update { .. } | Interaction::Patch { .. } => Some(Phase::Update),
            _ => None,
        }
    }

    fn deletes(&self) -> bool {
        self.phase() == Some(Phase::Delete)
    }

    /// Whether something of it depends on what a search finds.
    fn has_condition(&self) -> bool {
        let is_search = |target: &Target| matches!(target, Target::Matching(_));
        match &self.entry.interaction {
            Interaction::Create { resource, if_none_exist } => {
                if_none_exist.is_some() || refers_by_search(resource)
            }
            Interaction::Update { resource, target, .. } => {
                is_search(target) || refers_by_search(resource)
            }
            Interaction::Patch { target, patch, .. } => {
                is_search(target) || refers_by_search(patch)
            }
            _ => false,
        }
    }

    /// Finds the ids of what the entry writes; a delete is done at once. Gives the resource that is
    /// to be put.
    async fn target(
        &mut self,
        facade: &Facade,
        unit: &mut Unit<'_>,
        taken: &mut HashSet<(String, String)>,
    ) -> Result<Option<Json>, Error> {
        let of = self.resource_type.clone();
        match &self.entry.interaction {
            Interaction::Delete { target, precondition, .. } => {
                self.ids = unit.delete(&of, target, precondition.as_ref()).await?;
                self.claim(taken)?;
                Ok(None)
            }
            Interaction::Create { resource, if_none_exist } => {
                if let Some(parameters) = if_none_exist
                    && let Some(id) = unit.existing(&of, parameters).await?
                {
                    self.ids = vec![id];
                    return Ok(None);
                }
                let id = facade.source.id();
                let mut resource = resource.clone();
                if let Some(object) = resource.as_object_mut() {
                    object.set_at(1, "id", id.as_str());
                }
                self.ids = vec![id];
                self.claim(taken)?;
                Ok(Some(resource))
            }
            Interaction::Update { resource, target, precondition } => {
                let resource = unit.aimed(resource, target).await?;
                let id = resource.str_at(&["id"]).unwrap_or_default().to_owned();
                self.ids = vec![id.clone()];
                self.claim(taken)?;
                unit.hold(&of, &id, precondition.as_ref()).await?;
                Ok(Some(resource))
            }
            Interaction::Patch { target, patch, precondition, .. } => {
                let id = unit.one(&of, target).await?;
                self.ids = vec![id.clone()];
                self.claim(taken)?;
                unit.hold(&of, &id, precondition.as_ref()).await?;
                unit.patched(&of, &id, patch).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Takes what the entry writes for it; no two entries may write one resource.
    fn claim(&self, taken: &mut HashSet<(String, String)>) -> Result<(), Error> {
        for id in &self.ids {
            if !taken.insert((self.resource_type.clone(), id.clone())) {
                let text = format!(
                    "The transaction changes {}/{id} twice; an entry may change a resource once.",
                    self.resource_type
                );
                let issue = Issue::error(IssueType::Invalid, text);
                return Err(Error::Unparseable(vec![issue]));
            }
        }
        Ok(())
    }
}

/// Whether a text anywhere looks like a conditional reference; what it is, is found out later.
fn refers_by_search(json: &Json) -> bool {
    match json {
        Json::Object(object) => object.iter().any(|(name, value)| match value {
            Json::String(text) => name == "reference" && text.contains('?'),
            value => refers_by_search(value),
        }),
        Json::Array(items) => items.iter().any(refers_by_search),
        _ => false,
    }
}

/// `Type/id` of the one resource that a conditional reference finds.
async fn only(unit: &mut Unit<'_>, search: &str) -> Result<String, Error> {
    let (of, query) = search.split_once('?').unwrap_or((search, ""));
    let matches = unit.matching(of, &decode_pairs(query)?, 2).await?;
    match matches.as_slice() {
        [one] => Ok(format!("{of}/{}", one.str_at(&["id"]).unwrap_or_default())),
        found => {
            let (code, how) = match found {
                [] => (IssueType::NotFound, "none"),
                _ => (IssueType::MultipleMatches, "several"),
            };
            let text = format!(
                "A conditional reference must find exactly one {of}, but finds {how}; make the search fit, or name the resource by its id."
            );
            Err(Error::PreconditionFailed(Issue::error(code, text)))
        }
    }
}
