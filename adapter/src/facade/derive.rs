//! What follows from a write, computed inside its unit of work: scores from answers, proposals
//! from scores.
//!
//! It does not matter by which way something came, nor what came first: answers, a risk that
//! somebody else found, or the referral.

use std::collections::BTreeMap;

use lumbar_clinical::derive::{derive as scores, entered_in_error, observation_ids};
use lumbar_clinical::plan::{Applied, Inputs, result};
use lumbar_fhir::datetime::instant;
use lumbar_fhir::{Issue, IssueType, Json};

use super::{Error, Unit, flag, outbox, stratify, subscription};

/// How often consequences of consequences are looked for.
const MAX_ROUNDS: usize = 6;
/// Most resources that one search brings into a pathway.
const MOST_FOUND: usize = 500;

/// Adds everything that follows from the unit's changes to the unit.
///
/// # Errors
/// [`Error::Invalid`] when answers break the instrument's rules.
pub(super) async fn derive(unit: &mut Unit<'_>) -> Result<(), Error> {
    // Scores that follow from a form are looked at with the form, not once more alone.
    let mut seen = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let changes = unit.take_underived();
        if changes.is_empty() {
            return Ok(());
        }
        for (of, id, after) in &changes {
            match of.as_str() {
                "QuestionnaireResponse" => response(unit, id, after.as_ref(), &mut seen).await?,
                "Observation" if after.is_some() && !seen.contains(id) => {
                    observation(unit, after.as_ref()).await?;
                }
                "Subscription" => subscription::written(unit, id, after.as_ref()).await?,
                "ServiceRequest" => request(unit, id, after.as_ref()).await?,
                "Task" => {
                    if let Some(after) = after {
                        flag::task(unit, id, after).await?;
                    }
                }
                _ => {}
            }
        }
    }
    tracing::warn!("consequences of a write were followed six times and did not end");
    Ok(())
}

/// Scores a form and looks for the care that matches.
async fn response(
    unit: &mut Unit<'_>,
    id: &str,
    after: Option<&Json>,
    seen: &mut Vec<String>,
) -> Result<(), Error> {
    let before = unit.before("QuestionnaireResponse", id).await?;
    let rules = unit.facade().rules.clone();
    // The form may have been turned into one of another instrument: the old scores go first.
    let old = before.as_ref().and_then(|before| rules.instrument(before));
    let new = after.and_then(|after| rules.instrument(after));
    let mut retracted: Vec<String> = old.map_or_else(Vec::new, |old| observation_ids(old, id));
    let mut observations = Vec::new();
    // What the answers may mean is looked at in every state of the form.
    let found = new.zip(after).map(|(instrument, after)| result(instrument, after));
    if let (Some(instrument), Some(after)) = (new, after) {
        unit.refuse_other_version(after).await?;
        let derived =
            scores(instrument, after, id).map_err(|refused| Error::Invalid(refused.issues))?;
        retracted.extend(derived.retracted);
        observations = derived.observations;
    }
    if unit.is_new("QuestionnaireResponse", id) {
        // Nothing of it can be stored yet, as its id was made just now.
        for observation in &observations {
            let of = observation.str_at(&["id"]).unwrap_or_default().to_owned();
            unit.put_new("Observation", &of, observation.clone());
            seen.push(of);
        }
        if let Some(instrument) = new.filter(|_| !observations.is_empty()) {
            unit.put_provenance(instrument, id, &observations).await?;
        }
        if new.is_some() {
            let applied = apply(unit, after, &observations, found.as_ref()).await?;
            tell(unit, id, applied);
        }
        return Ok(());
    }
    let named = |observation: &Json| observation.str_at(&["id"]).unwrap_or_default().to_owned();
    let mut results = observations.clone();
    for id in retracted {
        if observations.iter().any(|observation| named(observation) == id) {
            continue;
        }
        if let Some(stored) = unit.read("Observation", &id).await?
            && !results.iter().any(|result| named(result) == id)
        {
            results.push(entered_in_error(&stored));
        }
    }
    for result in &results {
        seen.push(named(result));
        unit.put_resource(result.clone()).await?;
    }
    observations.retain(|score| unit.changes("Observation", &named(score)));
    if let Some(instrument) = new.filter(|_| !observations.is_empty()) {
        unit.put_provenance(instrument, id, &observations).await?;
    }
    if new.is_some() || old.is_some() {
        let applied = apply(unit, after, &results, found.as_ref()).await?;
        tell(unit, id, applied);
    }
    Ok(())
}

/// Tells the person who answers what cannot wait, in the answer to the write and before all else.
fn tell(unit: &mut Unit<'_>, id: &str, applied: Vec<Applied>) {
    for text in applied.into_iter().flat_map(|applied| applied.texts) {
        let of = ("QuestionnaireResponse".to_owned(), id.to_owned());
        unit.issues.insert(0, (of, Issue::warning(IssueType::BusinessRule, text)));
    }
}

/// A result that came from elsewhere, or whose form did not change.
async fn observation(unit: &mut Unit<'_>, after: Option<&Json>) -> Result<(), Error> {
    let Some(observation) = after else { return Ok(()) };
    let response = match observation.list("derivedFrom").first() {
        Some(link) => {
            let reference = link.str_at(&["reference"]).unwrap_or_default().to_owned();
            unit.resolve(&reference).await?
        }
        None => None,
    };
    apply(unit, response.as_ref(), std::slice::from_ref(observation), None).await.map(|_| ())
}

/// A referral that comes after the scores it is to be matched with, or a match that was confirmed.
async fn request(unit: &mut Unit<'_>, id: &str, after: Option<&Json>) -> Result<(), Error> {
    let Some(request) = after else { return Ok(()) };
    if let Some(before) = unit.before("ServiceRequest", id).await? {
        stratify::decided(unit, id, &before, request).await?;
    }
    if request.str_at(&["status"]) != Some("active") {
        return Ok(());
    }
    if !request.list("instantiatesCanonical").is_empty() {
        return confirmed(unit, id, request).await;
    }
    let Some(subject) = request.str_at(&["subject", "reference"]) else { return Ok(()) };
    for (response, scores) in results(unit, subject).await? {
        apply(unit, response.as_ref(), &scores, None).await?;
    }
    Ok(())
}

/// The results of a person: the Observations of each form together, and the form.
pub(super) async fn results(
    unit: &mut Unit<'_>,
    subject: &str,
) -> Result<Vec<(Option<Json>, Vec<Json>)>, Error> {
    let parameters = [
        ("subject".to_owned(), subject.to_owned()),
        ("status:not".to_owned(), "entered-in-error".to_owned()),
        ("_sort".to_owned(), "date".to_owned()),
    ];
    let found = unit.find("Observation", &parameters, MOST_FOUND).await?;
    let mut forms: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    for observation in found {
        let form = observation.list("derivedFrom").first().and_then(|l| l.str_at(&["reference"]));
        let form = form.or(observation.str_at(&["id"])).unwrap_or_default().to_owned();
        forms.entry(form).or_default().push(observation);
    }
    let mut results = Vec::with_capacity(forms.len());
    for (form, scores) in forms {
        results.push((unit.resolve(&form).await?, scores));
    }
    Ok(results)
}

/// Lets every pathway look at one result and puts what follows.
pub(super) async fn apply(
    unit: &mut Unit<'_>,
    response: Option<&Json>,
    scores: &[Json],
    result: Option<&Json>,
) -> Result<Vec<Applied>, Error> {
    let all = look(unit, response, scores, result).await?;
    for resource in all.iter().flat_map(|applied| &applied.resources) {
        unit.put_resource(resource.clone()).await?;
    }
    Ok(all)
}

/// What follows from one result by every pathway. A form is looked at for alerts only with what was
/// found out about it (`result`), which is when it is written.
pub(super) async fn look(
    unit: &mut Unit<'_>,
    response: Option<&Json>,
    scores: &[Json],
    result: Option<&Json>,
) -> Result<Vec<Applied>, Error> {
    let mut all = Vec::new();
    let facade = unit.facade();
    let rules = facade.rules.clone();
    let now = instant(facade.source.now());
    let broken = |issue: Issue| {
        // The write itself is sound: it is stored, and the operator hears of the rule.
        tracing::error!(rule = issue.text, "a pathway cannot be applied");
    };
    for pathway in &rules.pathways {
        let inputs = Inputs { response, scores, result, found: &[] };
        let needs = match pathway.needs(&facade.definitions(), &inputs, &now) {
            Ok(needs) => needs,
            Err(issue) => {
                broken(issue);
                continue;
            }
        };
        if needs.is_empty() {
            continue;
        }
        let mut found = Vec::with_capacity(needs.len());
        for need in needs {
            let matches = unit.fetch(&need.search, MOST_FOUND).await?;
            found.push((need.name, matches));
        }
        let inputs = Inputs { found: &found, ..inputs };
        match pathway.apply(&facade.definitions(), &inputs, &now) {
            Ok(applied) => all.push(applied),
            Err(issue) => broken(issue),
        }
    }
    Ok(all)
}

/// Whether a request has been confirmed.
pub(super) fn is_order(request: &Json) -> bool {
    request.str_at(&["status"]) == Some("active")
        && matches!(request.str_at(&["intent"]), Some("order" | "plan"))
}

/// A matched request that has just become an order leaves for the booking system, unless an alert
/// holds it.
async fn confirmed(unit: &mut Unit<'_>, id: &str, request: &Json) -> Result<(), Error> {
    let before = unit.before("ServiceRequest", id).await?;
    if !is_order(request) || before.as_ref().is_some_and(is_order) {
        return Ok(());
    }
    let version = unit.version("ServiceRequest", id).await?.version.unwrap_or(0) + 1;
    let now = unit.facade().source.now();
    let reference = format!("ServiceRequest/{id}");
    let held = match request.str_at(&["subject", "reference"]) {
        Some(subject) => flag::held(unit, subject).await?,
        None => None,
    };
    match held {
        Some(reason) => {
            let delivery = outbox::delivery(&reference, request, "on-hold", Some(&reason));
            unit.put_resource(delivery).await
        }
        None => {
            unit.enqueue(outbox::referral(&reference, version, now));
            Ok(())
        }
    }
}
