//! Flags of safety: <https://hl7.org/fhir/R4/flag.html>. What they hold back, how a clinician clears
//! them, and the alert of a form that is refused.
//!
//! Which answers raise one is for the pathways to say. Nobody is told from here: the Task waits for
//! whoever works the list.

use lumbar_clinical::plan::{clearance, flag_id, is_safety_review, levels, result, safety_review};
use lumbar_fhir::rest::Interaction;
use lumbar_fhir::{Issue, IssueType, Json, json};

use super::{ATTEMPTS, Error, Facade, Unit, derive, outbox};

/// Most alerts and deliveries of a person that are looked at.
const MOST_FOUND: usize = 500;

/// Why nothing is booked for a person: an alert that nobody has cleared. `None` when there is none.
///
/// # Errors
/// The store cannot be read.
pub(super) async fn held(unit: &mut Unit<'_>, subject: &str) -> Result<Option<String>, Error> {
    let rules = unit.facade().rules.clone();
    let holding = |concept: Option<&Json>| {
        levels(concept)
            .find(|level| rules.pathways.iter().any(|pathway| pathway.holds_booking(level)))
            .map(|level| format!("Held until a clinician clears the safety alert ({level})."))
    };
    let of_subject = |name: &str| (name.to_owned(), subject.to_owned());
    let code = ("code".to_owned(), safety_review());
    for task in unit.find("Task", &[of_subject("patient"), code], MOST_FOUND).await? {
        if clearance(&task).is_none()
            && let Some(reason) = holding(task.get("reasonCode"))
        {
            return Ok(Some(reason));
        }
    }
    for flag in unit.find("Flag", &[of_subject("subject")], MOST_FOUND).await? {
        if flag.str_at(&["status"]) == Some("active")
            && let Some(reason) = holding(flag.get("code"))
        {
            return Ok(Some(reason));
        }
    }
    Ok(None)
}

/// A Task was written. When it is that of an alert, its Flag stands as long as nobody has cleared
/// it; when it is cleared, what was held leaves.
///
/// # Errors
/// [`Error::Invalid`] when it is completed and does not say who cleared it, when and why.
pub(super) async fn task(unit: &mut Unit<'_>, id: &str, task: &Json) -> Result<(), Error> {
    if !is_safety_review(task) {
        return Ok(());
    }
    let cleared = clearance(task);
    if cleared.is_none() && task.str_at(&["status"]) == Some("completed") {
        let text = "A safety review is completed with an output of type clearance: its valueAnnotation says who (authorReference or authorString), when (time) and why (text).";
        let issue = Issue::error(IssueType::BusinessRule, text).at("Task.output");
        return Err(Error::Invalid(vec![issue]));
    }
    if let Some(mut flag) = unit.read("Flag", &flag_id(id)).await? {
        flag.set("status", if cleared.is_some() { "inactive" } else { "active" });
        let start = flag.str_at(&["period", "start"]).map(str::to_owned);
        let mut period = json!({});
        for (name, value) in [
            ("start", start.as_deref()),
            ("end", cleared.and_then(|cleared| cleared.str_at(&["time"]))),
        ] {
            if let Some(value) = value {
                period.set(name, value);
            }
        }
        flag.set("period", period);
        unit.put_resource(flag).await?;
    }
    match task.str_at(&["for", "reference"]) {
        Some(subject) if cleared.is_some() => release(unit, subject).await,
        _ => Ok(()),
    }
}

/// Lets go what was held of a person's requests, unless another alert holds it.
async fn release(unit: &mut Unit<'_>, subject: &str) -> Result<(), Error> {
    if held(unit, subject).await?.is_some() {
        return Ok(());
    }
    let parameters =
        [("patient".to_owned(), subject.to_owned()), ("status".to_owned(), "on-hold".to_owned())];
    for delivery in unit.find("Task", &parameters, MOST_FOUND).await? {
        let matched = delivery.str_at(&["focus", "reference"]).unwrap_or_default().to_owned();
        let id = delivery.str_at(&["id"]).unwrap_or_default().to_owned();
        if id != outbox::delivery_id(&matched) {
            continue;
        }
        let Some(request) = unit.resolve(&matched).await? else { continue };
        if !derive::is_order(&request) {
            continue;
        }
        let version = unit.version("Task", &id).await?.version.unwrap_or(0);
        let now = unit.facade().source.now();
        unit.enqueue(outbox::released(&matched, version, now));
        unit.put_resource(outbox::delivery(&matched, &request, "requested", None)).await?;
    }
    Ok(())
}

impl Facade {
    /// Why nothing is booked for a person, for Lumbar's own parts.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn held(&self, subject: &str) -> Result<Option<String>, Error> {
        held(&mut Unit::new(self), subject).await
    }

    /// What is told of a write that is refused. The forms in it are not stored, but what their
    /// answers may mean is not lost: the alert is stored about the person, and the words are among
    /// the issues. A form that names nobody has the words alone.
    pub(super) async fn refused(&self, interaction: &Interaction, mut issues: Vec<Issue>) -> Error {
        let forms: Vec<&Json> = match interaction {
            Interaction::Create { resource, .. } | Interaction::Update { resource, .. } => {
                vec![resource]
            }
            Interaction::Bundle(bundle) => {
                bundle.list("entry").iter().filter_map(|entry| entry.get("resource")).collect()
            }
            _ => Vec::new(),
        };
        let is_form = |resource: &&Json| {
            resource.str_at(&["resourceType"]) == Some("QuestionnaireResponse")
                && self.rules.instrument(resource).is_some()
        };
        for form in forms.into_iter().filter(is_form) {
            match self.alert_of_refused(form).await {
                Ok(texts) => {
                    let texts = texts.into_iter();
                    issues.extend(texts.map(|text| Issue::warning(IssueType::BusinessRule, text)));
                }
                Err(error) => {
                    tracing::error!(%error, "a form that was refused cannot be looked at");
                }
            }
        }
        Error::Invalid(issues)
    }

    async fn alert_of_refused(&self, form: &Json) -> Result<Vec<String>, Error> {
        let Some(instrument) = self.rules.instrument(form) else { return Ok(Vec::new()) };
        let text = |path: &[&str]| form.str_at(path).unwrap_or_default();
        let mut form = form.clone();
        if form.get("id").is_none() {
            let parts = ["QuestionnaireResponse", text(&["subject", "reference"])];
            let rest = [text(&["questionnaire"]), text(&["authored"])];
            let id = lumbar_clinical::id::derived(&[&parts[..], &rest[..]].concat());
            form.set("id", id);
        }
        let result = result(instrument, &form);
        let id = form.str_at(&["id"]).unwrap_or_default();
        let mut attempt = 1;
        loop {
            let mut unit = Unit::new(self);
            let stored = unit.read("QuestionnaireResponse", id).await?.is_some();
            let applied = derive::look(&mut unit, Some(&form), &[], Some(&result)).await?;
            let mut texts = Vec::new();
            for mut applied in applied {
                texts.append(&mut applied.texts);
                // A person has a Flag; without one there is nothing that the Task could be about.
                let is_flag = |r: &Json| r.str_at(&["resourceType"]) == Some("Flag");
                let Some(subject) =
                    form.get("subject").filter(|_| applied.resources.iter().any(is_flag))
                else {
                    continue;
                };
                for mut resource in applied.resources {
                    match resource.str_at(&["resourceType"]) {
                        Some("Task") if !stored => resource.set("focus", subject),
                        Some("Task" | "Flag") => {}
                        _ => continue,
                    }
                    unit.put_resource(resource).await?;
                }
            }
            match unit.commit().await {
                Err(Error::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                Ok(_) => return Ok(texts),
                Err(error) => {
                    tracing::error!(%error, "the alert of a form that was refused cannot be stored");
                    return Ok(texts);
                }
            }
        }
    }
}
