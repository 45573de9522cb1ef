//! Batch and transaction: <https://hl7.org/fhir/R4/http.html#transaction>.
//!
//! A transaction is one unit of work: all of it is stored or nothing. Deletes come first, then
//! creates, then updates; reads come last and see what was stored.

use std::collections::{HashMap, HashSet};

use lumbar_fhir::datetime::instant;
use lumbar_fhir::rest::{self, Interaction, Method, Request, Target, decode_pairs};
use lumbar_fhir::{Issue, IssueType, Json, Object, json};

use super::unit::Committed;
use super::{Error, Facade, Preferences, Reply, Return, Success, Unit};
use crate::security::Caller;

/// What one entry of a transaction does.
struct Step {
    interaction: Interaction,
    full_url: Option<String>,
    /// Type and id of what is written, once known.
    target: Option<(String, String)>,
    created: bool,
    existed: bool,
}

impl Facade {
    pub(super) async fn bundle(
        &self,
        caller: &Caller,
        bundle: &Json,
        prefer: Preferences,
    ) -> Result<Reply, Error> {
        let entries = bundle.list("entry");
        let most = self.policy.limits.entries;
        if entries.len() > most {
            return Err(Error::Unparseable(vec![
                Issue::error(
                    IssueType::TooCostly,
                    format!("A Bundle may have {most} entries at most; send several."),
                )
                .at("Bundle.entry"),
            ]));
        }
        let (kind, entries) = match bundle.str_at(&["type"]) {
            Some("transaction") => {
                ("transaction-response", self.transaction(caller, entries, prefer).await?)
            }
            _ => ("batch-response", self.batch(caller, entries, prefer).await),
        };
        let mut answer = json!({"resourceType": "Bundle", "type": (kind)});
        if !entries.is_empty() {
            answer.set("entry", entries);
        }
        Ok(Reply::of(&answer))
    }

    async fn batch(&self, caller: &Caller, entries: &[Json], prefer: Preferences) -> Vec<Json> {
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            let result = match self.entry_interaction(entry) {
                Ok(Interaction::Bundle(_)) => Err(nested()),
                // The future is boxed because a Bundle's entry is performed like any request.
                Ok(interaction) => Box::pin(self.perform(caller, &interaction, prefer)).await,
                Err(error) => Err(error),
            };
            let held = entry
                .str_at(&["request", "ifNoneMatch"])
                .filter(|_| matches!(entry.str_at(&["request", "method"]), Some("GET" | "HEAD")));
            answers.push(match result {
                Ok(mut reply) if held.is_some_and(|held| reply.is_held(held)) => {
                    reply.success = Success::NotModified;
                    reply.body = None;
                    self.entry_answer(&reply, prefer)
                }
                Ok(reply) => self.entry_answer(&reply, prefer),
                Err(error) => error_answer(&error),
            });
        }
        answers
    }

    async fn transaction(
        &self,
        caller: &Caller,
        entries: &[Json],
        prefer: Preferences,
    ) -> Result<Vec<Json>, Error> {
        let mut steps = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let interaction = match self.entry_interaction(entry) {
                Ok(Interaction::Bundle(_)) => Err(nested()),
                other => other,
            };
            steps.push(Step {
                interaction: interaction.map_err(|error| of_entry(error, index))?,
                full_url: entry.str_at(&["fullUrl"]).map(str::to_owned),
                target: None,
                created: false,
                existed: false,
            });
        }
        let mut unit = Unit::new(self);
        let updates = steps.iter().filter_map(|step| match &step.interaction {
            Interaction::Update { resource, .. } => Some(resource),
            _ => None,
        });
        unit.prefetch(updates).await?;
        self.name_targets(&mut unit, &mut steps).await?;
        self.apply(&mut unit, &mut steps).await?;
        let committed = unit.commit().await?;
        let mut answers = Vec::with_capacity(steps.len());
        for step in &steps {
            answers.push(self.step_answer(caller, step, &committed, prefer).await?);
        }
        Ok(answers)
    }

    /// Gives every entry that writes its type and id, so that references to it can be rewritten.
    async fn name_targets(&self, unit: &mut Unit<'_>, steps: &mut [Step]) -> Result<(), Error> {
        let mut taken = HashSet::new();
        for (index, step) in steps.iter_mut().enumerate() {
            let target = match &step.interaction {
                Interaction::Create { resource, if_none_exist } => {
                    let of = resource.str_at(&["resourceType"]).unwrap_or_default().to_owned();
                    let found = match if_none_exist {
                        Some(parameters) => unit
                            .find(&of, parameters, 2)
                            .await
                            .map_err(|error| of_entry(error, index))?,
                        None => Vec::new(),
                    };
                    match found.as_slice() {
                        [] => {
                            if let Some(parameters) = if_none_exist {
                                unit.guard(&of, parameters).await?;
                            }
                            (of, self.source.id())
                        }
                        [one] => {
                            step.existed = true;
                            (of, one.str_at(&["id"]).unwrap_or_default().to_owned())
                        }
                        _ => {
                            let issue = Issue::error(
                                IssueType::MultipleMatches,
                                "ifNoneExist finds more than one resource; make the search narrower.",
                            );
                            return Err(of_entry(Error::PreconditionFailed(issue), index));
                        }
                    }
                }
                Interaction::Update { resource, target: Target::Id(_), .. } => (
                    resource.str_at(&["resourceType"]).unwrap_or_default().to_owned(),
                    resource.str_at(&["id"]).unwrap_or_default().to_owned(),
                ),
                Interaction::Delete { resource_type, target: Target::Id(id), .. } => {
                    (resource_type.clone(), id.clone())
                }
                _ => continue,
            };
            if !taken.insert(target.clone()) && !step.existed {
                let issue = Issue::error(
                    IssueType::Invalid,
                    format!(
                        "The transaction changes {}/{} twice; an entry may change a resource once.",
                        target.0, target.1
                    ),
                );
                return Err(of_entry(Error::Unparseable(vec![issue]), index));
            }
            step.target = Some(target);
        }
        Ok(())
    }

    async fn apply(&self, unit: &mut Unit<'_>, steps: &mut [Step]) -> Result<(), Error> {
        let mut names = HashMap::new();
        for step in steps.iter() {
            if let (Some(full_url), Some((of, id))) = (&step.full_url, &step.target) {
                names.insert(full_url.clone(), format!("{of}/{id}"));
            }
        }
        for (index, step) in steps.iter_mut().enumerate() {
            if let Interaction::Delete { resource_type, target: Target::Id(id), if_match } =
                &step.interaction
            {
                unit.delete(resource_type, id, *if_match)
                    .await
                    .map_err(|error| of_entry(error, index))?;
            }
        }
        for (index, step) in steps.iter_mut().enumerate() {
            if let (Interaction::Create { resource, .. }, Some((of, id)), false) =
                (&step.interaction, &step.target, step.existed)
            {
                let mut resource = resource.clone();
                self.rewrite(unit, &names, &mut resource, step.full_url.as_deref())
                    .await
                    .map_err(|error| of_entry(error, index))?;
                if let Some(object) = resource.as_object_mut() {
                    object.set_at(1, "id", id.as_str());
                }
                unit.check(&resource).map_err(|error| of_entry(error, index))?;
                unit.put_new(of, id, resource);
                step.created = true;
            }
        }
        for (index, step) in steps.iter_mut().enumerate() {
            if let Interaction::Update { resource, target: Target::Id(_), if_match } =
                &step.interaction
            {
                let mut resource = resource.clone();
                self.rewrite(unit, &names, &mut resource, step.full_url.as_deref())
                    .await
                    .map_err(|error| of_entry(error, index))?;
                let updated = unit
                    .update(resource, *if_match)
                    .await
                    .map_err(|error| of_entry(error, index))?;
                step.created = updated.created;
            }
        }
        Ok(())
    }

    /// Puts the final references in place of those to entries of the Bundle, and of searches.
    async fn rewrite(
        &self,
        unit: &mut Unit<'_>,
        names: &HashMap<String, String>,
        resource: &mut Json,
        full_url: Option<&str>,
    ) -> Result<(), Error> {
        let mut conditional = Vec::new();
        let root = full_url.and_then(|url| url.rsplitn(3, '/').nth(2)).unwrap_or_default();
        rewrite_tree(resource, None, &mut |text, member| {
            if let Some(name) = names.get(text) {
                return Ok(Some(name.clone()));
            }
            if member == "div" {
                return Ok(rewrite_links(text, names));
            }
            if member != "reference" {
                return Ok(None);
            }
            if text.starts_with("urn:uuid:") || text.starts_with("urn:oid:") {
                return Err(Error::Unparseable(vec![Issue::error(
                    IssueType::NotFound,
                    "A reference names an entry by its urn, but no entry of the Bundle has this fullUrl.",
                )]));
            }
            if let Some((of, query)) = text.split_once('?')
                && self.definitions().is_resource(of)
            {
                conditional.push((text.to_owned(), of.to_owned(), query.to_owned()));
            }
            // A relative reference means the entry whose fullUrl has the same root.
            Ok(names.get(&format!("{root}/{text}")).filter(|_| !root.is_empty()).cloned())
        })?;
        let mut found = HashMap::new();
        for (text, of, query) in conditional {
            let parameters = decode_pairs(&query)?;
            let matches = unit.find(&of, &parameters, 2).await?;
            let [one] = matches.as_slice() else {
                return Err(Error::PreconditionFailed(Issue::error(
                    if matches.is_empty() {
                        IssueType::NotFound
                    } else {
                        IssueType::MultipleMatches
                    },
                    "A conditional reference must find exactly one resource.",
                )));
            };
            found.insert(text, format!("{of}/{}", one.str_at(&["id"]).unwrap_or_default()));
        }
        if found.is_empty() {
            return Ok(());
        }
        rewrite_tree(resource, None, &mut |text, _| Ok(found.get(text).cloned()))
    }

    fn entry_interaction(&self, entry: &Json) -> Result<Interaction, Error> {
        let missing = |member: &str| {
            Error::Unparseable(vec![
                Issue::error(
                    IssueType::Required,
                    format!("An entry of a batch or transaction needs request.{member}."),
                )
                .at(format!("request.{member}")),
            ])
        };
        let method = match entry.str_at(&["request", "method"]) {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            Some("POST") => Method::Post,
            Some("PUT") => Method::Put,
            Some("PATCH") => Method::Patch,
            Some("DELETE") => Method::Delete,
            _ => return Err(missing("method")),
        };
        let url = entry.str_at(&["request", "url"]).ok_or_else(|| missing("url"))?;
        let url = url.strip_prefix(&self.base).unwrap_or(url).trim_start_matches('/');
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let header = |name| entry.str_at(&["request", name]).map(str::to_owned);
        let request = Request {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            if_match: header("ifMatch"),
            if_none_exist: header("ifNoneExist"),
            body: entry.get("resource").cloned(),
            form: None,
        };
        Ok(rest::parse(&self.definitions(), request)?)
    }

    async fn step_answer(
        &self,
        caller: &Caller,
        step: &Step,
        committed: &Committed,
        prefer: Preferences,
    ) -> Result<Json, Error> {
        let Some((of, id)) = &step.target else {
            let reply = Box::pin(self.perform(caller, &step.interaction, prefer)).await;
            return Ok(match reply {
                Ok(mut reply) => {
                    let body = reply.body.take();
                    let mut answer = self.entry_answer(&reply, prefer);
                    if let Some(resource) = body.and_then(|body| Json::parse(body.as_bytes()).ok())
                    {
                        answer.set("resource", resource);
                    }
                    answer
                }
                Err(error) => error_answer(&error),
            });
        };
        if matches!(step.interaction, Interaction::Delete { .. }) {
            return Ok(json!({"response": {"status": "204 No Content"}}));
        }
        let reply = match committed.find(of, id) {
            Some(stored) => {
                let success =
                    if step.created { super::Success::Created } else { super::Success::Ok };
                self.written(success, stored, &[], Preferences::default())
            }
            None => {
                let mut reply = self.read(of, id).await?;
                reply.location = reply.version.map(|version| self.location(of, id, version));
                reply
            }
        };
        Ok(self.entry_answer(&reply, prefer))
    }

    fn entry_answer(&self, reply: &Reply, prefer: Preferences) -> Json {
        let mut response = Object::new();
        response.set("status", status_line(reply.success.status()));
        if let Some(location) = &reply.location {
            response.set("location", location);
        }
        if let Some(version) = reply.version {
            response.set("etag", format!("W/\"{version}\""));
        }
        if let Some(moment) = reply.last_updated {
            response.set("lastModified", instant(moment));
        }
        let mut answer = Object::new();
        let wanted = reply.location.is_none() || prefer.returns == Some(Return::Representation);
        if let Some(body) = reply.body.as_ref().filter(|_| wanted)
            && let Ok(resource) = Json::parse(body.as_bytes())
        {
            answer.set("resource", resource);
        }
        answer.set("response", response);
        Json::Object(answer)
    }
}

/// What a text becomes, given the member it stands in; `None` leaves it.
type Change<'c> = dyn FnMut(&str, &str) -> Result<Option<String>, Error> + 'c;

fn rewrite_tree(
    value: &mut Json,
    member: Option<&str>,
    change: &mut Change<'_>,
) -> Result<(), Error> {
    match value {
        Json::Object(object) => {
            for (name, inner) in object.iter_mut() {
                rewrite_tree(inner, Some(name), change)?;
            }
        }
        Json::Array(items) => {
            for item in items {
                rewrite_tree(item, member, change)?;
            }
        }
        Json::String(text) => {
            // A text of its own may equal a urn (an identifier's value does): it stays. Rewritten
            // are what R4 says: reference, uri, url, oid, uuid, canonical, links of a narrative.
            if !matches!(
                member,
                Some("value" | "valueString" | "valueMarkdown" | "valueCode" | "text" | "display")
            ) && let Some(new) = change(text, member.unwrap_or_default())?
            {
                *text = new.into();
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
    Ok(())
}

/// A narrative with `href` and `src` that name an entry rewritten; `None` when there is none.
fn rewrite_links(div: &str, names: &HashMap<String, String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = div;
    while let Some(at) = rest.find("=\"urn:") {
        let (before, link) = rest.split_at(at + 2);
        let (link, after) = link.split_at(link.find('"').unwrap_or(link.len()));
        out.push_str(before);
        out.push_str(names.get(link).map_or(link, String::as_str));
        rest = after;
    }
    out.push_str(rest);
    (out != div).then_some(out)
}

fn nested() -> Error {
    Error::Unparseable(vec![Issue::error(
        IssueType::NotSupported,
        "A Bundle may not hold another batch or transaction.",
    )])
}

/// The same error, its issues naming the entry.
fn of_entry(error: Error, index: usize) -> Error {
    let place = |mut issue: Issue| {
        let inner = issue.expression.take().map_or(String::new(), |path| {
            // `Patient.name` of the entry's resource becomes `resource.name`.
            match path.split_once('.') {
                Some((of, rest)) if of.starts_with(|c: char| c.is_ascii_uppercase()) => {
                    format!(".resource.{rest}")
                }
                _ => format!(".{path}"),
            }
        });
        issue.text = format!("Entry {index}: {}", issue.text);
        issue.at(format!("Bundle.entry[{index}]{inner}"))
    };
    match error {
        Error::NotFound(issue) => Error::NotFound(place(issue)),
        Error::Gone(issue, version) => Error::Gone(place(issue), version),
        Error::Conflict(issue) => Error::Conflict(place(issue)),
        Error::PreconditionFailed(issue) => Error::PreconditionFailed(place(issue)),
        Error::NotSupported(issue) => Error::NotSupported(place(issue)),
        Error::Invalid(issues) => Error::Invalid(issues.into_iter().map(place).collect()),
        Error::Unparseable(issues) => Error::Unparseable(issues.into_iter().map(place).collect()),
        other => other,
    }
}

fn error_answer(error: &Error) -> Json {
    json!({"response": {
        "status": (status_line(error.status())),
        "outcome": (error.outcome())
    }})
}

/// The status as a Bundle's answer shows it: number and reason.
fn status_line(status: u16) -> String {
    let reason = match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        422 => "Unprocessable Entity",
        501 => "Not Implemented",
        _ => return status.to_string(),
    };
    format!("{status} {reason}")
}
