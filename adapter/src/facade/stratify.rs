//! `ServiceRequest/[id]/$stratify`, our own operation
//! (`profiles/structure/OperationDefinition-ServiceRequest-stratify.json`): the stratum of a
//! referral's patient, the treatment that a pathway matches to it, and why. What is proposed is a
//! <https://hl7.org/fhir/R4/servicerequest.html>.
//!
//! It does what is done at every write of a result, and tells it. GET stores nothing. The treatment
//! that a clinician chooses instead is a new request; which stratum the person has stays as it is.

use lumbar_clinical::plan::{Applied, levels};
use lumbar_clinical::score::{Status, score};
use lumbar_clinical::{Answers, id};
use lumbar_fhir::datetime::instant;
use lumbar_fhir::{Issue, IssueType, Json, json};

use super::operation::Call;
use super::{ATTEMPTS, Error, Facade, Reply, Unit, derive};

/// Most forms and requests of a person that are looked at.
const MOST_FOUND: usize = 500;
const PROVENANCE: &str = "https://lumbar.example/fhir/StructureDefinition/back-pain-provenance";

/// What a clinician chooses instead of the proposal.
struct Override {
    treatment: String,
    reason: String,
    requester: Json,
}

/// What was asked for.
struct Asked {
    apply: bool,
    instead: Option<Override>,
}

impl Asked {
    fn read(call: &Call<'_>) -> Result<Asked, Error> {
        let parameters = call.body.map(|body| body.list("parameter")).unwrap_or_default();
        let refuse = |code: IssueType, name: &str, text: &str| {
            let issue = Issue::error(code, text);
            Err(Error::Unparseable(vec![
                issue.at(format!("Parameters.parameter.where(name='{name}')")),
            ]))
        };
        let mut apply = call.post;
        let (mut treatment, mut reason, mut requester) = (None, None, None);
        for parameter in parameters {
            let text = |member: &str| {
                parameter.str_at(&[member]).map(str::trim).filter(|text| !text.is_empty())
            };
            let name = parameter.str_at(&["name"]).unwrap_or_default();
            let known = match name {
                "apply" => {
                    let value = parameter.get("valueBoolean").and_then(Json::as_bool);
                    apply = apply && value != Some(false);
                    value.is_some()
                }
                "override" => {
                    let coded = parameter.str_at(&["valueCoding", "code"]);
                    treatment = text("valueCode").or(coded).map(str::to_owned);
                    treatment.is_some()
                }
                "reason" => {
                    reason = text("valueString").map(str::to_owned);
                    reason.is_some()
                }
                "requester" => {
                    requester = parameter.get("valueReference").cloned();
                    requester.is_some()
                }
                _ => {
                    let text = "The operation takes apply, override, reason and requester.";
                    return refuse(IssueType::NotSupported, name, text);
                }
            };
            if !known {
                let text = "The parameter has no value of its type: valueBoolean for apply, valueCode for override, valueString for reason, valueReference for requester.";
                return refuse(IssueType::Value, name, text);
            }
        }
        if let Some((name, _)) =
            call.parameters.iter().find(|(name, _)| name != "_format" && name != "_pretty")
        {
            let text = "Send the parameters as a Parameters resource by POST; GET takes none.";
            return refuse(IssueType::NotSupported, name, text);
        }
        let instead = match (treatment, reason, requester) {
            (None, None, None) => None,
            (Some(treatment), Some(reason), Some(requester)) => {
                Some(Override { treatment, reason, requester })
            }
            _ => {
                let text = "Another treatment needs override (its code), reason (why) and requester (who chooses it).";
                return refuse(IssueType::Required, "override", text);
            }
        };
        Ok(Asked { apply, instead })
    }
}

impl Facade {
    /// The stratum and the matched treatment of a referral.
    ///
    /// # Errors
    /// There is no such request, or no treatment that can be chosen instead.
    pub(super) async fn stratify(&self, call: &Call<'_>) -> Result<Reply, Error> {
        let Some(id) = call.id else {
            let text = "The operation is about one referral, as in ServiceRequest/r1/$stratify.";
            return Err(Error::Unparseable(vec![Issue::error(IssueType::Required, text)]));
        };
        let asked = Asked::read(call)?;
        self.begin().await?;
        let mut attempt = 1;
        loop {
            let mut unit = Unit::new(self);
            let answer = unit.stratify(id, &asked).await?;
            if !asked.apply {
                return Ok(Reply::of(&answer));
            }
            match unit.commit().await {
                Err(Error::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                result => return result.map(|_| Reply::of(&answer)),
            }
        }
    }
}

impl Unit<'_> {
    async fn stratify(&mut self, id: &str, asked: &Asked) -> Result<Json, Error> {
        let request = self.read("ServiceRequest", id).await?;
        let request = request.ok_or_else(|| Error::not_found("ServiceRequest", id))?;
        // A match names the referral that it answers.
        let referral = match request.list("instantiatesCanonical") {
            [] => format!("ServiceRequest/{id}"),
            _ => {
                let based_on = request.list("basedOn").first();
                let link = based_on.and_then(|link| link.str_at(&["reference"]));
                link.map_or_else(|| format!("ServiceRequest/{id}"), str::to_owned)
            }
        };
        let subject = request.str_at(&["subject", "reference"]).unwrap_or_default().to_owned();
        if subject.is_empty() {
            let issue = Issue::error(IssueType::Required, "The referral names no patient.");
            return Err(Error::Invalid(vec![issue.at("ServiceRequest.subject.reference")]));
        }
        let mut applied: Vec<Applied> = Vec::new();
        for (response, scores) in derive::results(self, &subject).await? {
            applied.extend(derive::apply(self, response.as_ref(), &scores, None).await?);
        }
        let missing = self.unscored(&subject, &mut applied).await?;
        let mut matched = self.matched(&referral).await?;
        if let Some(instead) = &asked.instead {
            matched = Some(self.choose(matched, instead).await?);
        }

        let mut parameters = vec![
            json!({"name": "referral", "valueReference": {"reference": (referral.as_str())}}),
            json!({"name": "applied", "valueBoolean": (asked.apply)}),
        ];
        if let Some(matched) = &matched {
            let result = matched.list("reasonReference").first();
            let result = result.and_then(|link| link.str_at(&["reference"])).map(str::to_owned);
            let found = match &result {
                Some(reference) => self.resolve(reference).await?,
                None => None,
            };
            if let Some(risk) = found.as_ref().and_then(|found| found.get("valueCodeableConcept")) {
                parameters.push(json!({"name": "risk", "valueCodeableConcept": (risk)}));
            }
            if let Some(reference) = result {
                parameters
                    .push(json!({"name": "result", "valueReference": {"reference": (reference)}}));
            }
            if let Some(code) = matched.get("code") {
                parameters.push(json!({"name": "treatment", "valueCodeableConcept": (code)}));
            }
            parameters.push(json!({"name": "request", "resource": (matched)}));
            let form = found.as_ref().and_then(|found| found.list("derivedFrom").first());
            let form = form.and_then(|link| link.str_at(&["reference"])).map(str::to_owned);
            if let Some(form) = form
                && let Some(response) = self.resolve(&form).await?
            {
                self.points(&response, &mut parameters);
            }
        }
        for reason in applied.iter().flat_map(|applied| &applied.reasons) {
            let mut parts = vec![
                json!({"name": "id", "valueString": (&reason.rule)}),
                json!({"name": "version", "valueString": (&reason.version)}),
                json!({"name": "text", "valueString": (&reason.text)}),
            ];
            parts.extend(
                reason.inputs.iter().map(
                    |input| json!({"name": "input", "valueReference": {"reference": (input)}}),
                ),
            );
            parameters.push(json!({"name": "rule", "part": (parts)}));
        }
        let missing = missing.into_iter();
        parameters.extend(missing.map(|text| json!({"name": "missing", "valueString": (text)})));
        Ok(json!({"resourceType": "Parameters", "parameter": (parameters)}))
    }

    /// The pathways' reasons for forms that gave no result, and what these lack.
    async fn unscored(
        &mut self,
        subject: &str,
        applied: &mut Vec<Applied>,
    ) -> Result<Vec<String>, Error> {
        let rules = self.facade().rules.clone();
        let parameters = [
            ("subject".to_owned(), subject.to_owned()),
            ("status".to_owned(), "completed,amended".to_owned()),
            ("_sort".to_owned(), "authored".to_owned()),
        ];
        let mut missing = Vec::new();
        for response in self.find("QuestionnaireResponse", &parameters, MOST_FOUND).await? {
            let Some(instrument) = rules.instrument(&response) else { continue };
            let Ok(answers) = Answers::from_response(instrument, &response) else { continue };
            let scored = score(instrument, &answers);
            if !matches!(scored.status, Status::NotScored | Status::Partial) {
                continue;
            }
            let found = derive::look(self, Some(&response), &[], None).await?;
            if found.iter().any(|applied| !applied.reasons.is_empty()) {
                missing.extend(scored.reasons);
                applied.extend(found);
            }
        }
        Ok(missing)
    }

    /// The request that stands for a referral, as it will be.
    async fn matched(&mut self, referral: &str) -> Result<Option<Json>, Error> {
        let parameters = [("based-on".to_owned(), referral.to_owned())];
        let found = self.find("ServiceRequest", &parameters, MOST_FOUND).await?;
        let stands = |request: &Json| {
            !request.list("instantiatesCanonical").is_empty()
                && !matches!(request.str_at(&["status"]), Some("revoked" | "entered-in-error"))
        };
        Ok(found.into_iter().find(stands))
    }

    /// Replaces a proposal by what a clinician chooses.
    async fn choose(&mut self, matched: Option<Json>, instead: &Override) -> Result<Json, Error> {
        let business = |place: &str, text: &str| {
            Error::Invalid(vec![Issue::error(IssueType::BusinessRule, text).at(place)])
        };
        let Some(old) = matched else {
            let text = "No treatment is matched to this referral, so none can be replaced; make a request of your own.";
            return Err(business("ServiceRequest", text));
        };
        let treatment = instead.treatment.as_str();
        let rules = self.facade().rules.clone();
        let canonicals = old.list("instantiatesCanonical");
        let is_of = |url: &str| {
            let mut canonicals = canonicals.iter().filter_map(Json::as_str);
            canonicals.any(|canonical| canonical.split('|').next() == Some(url))
        };
        let pathway = rules.pathways.iter().find(|pathway| is_of(&pathway.url));
        let Some(activity) = pathway.and_then(|pathway| pathway.treatment(treatment)) else {
            let text = "The pathway has no treatment with this code; ValueSet/matched-treatment lists those there are.";
            return Err(business("Parameters.parameter.where(name='override').value", text));
        };
        if levels(old.get("code")).any(|code| code == treatment) {
            return Ok(old);
        }
        if old.str_at(&["status"]) != Some("draft") {
            let text = "The treatment has been confirmed already; revoke that request first.";
            return Err(business("ServiceRequest.status", text));
        }
        let now = instant(self.facade().source.now());
        let old_id = old.str_at(&["id"]).unwrap_or_default().to_owned();
        let new_id = id::derived(&["ServiceRequest", &old_id, "override", treatment]);
        let (old_link, new_link) =
            (format!("ServiceRequest/{old_id}"), format!("ServiceRequest/{new_id}"));
        let mut new = old.clone();
        new.set("id", new_id);
        if let Some(object) = new.as_object_mut() {
            object.remove("performerType");
        }
        new.set("replaces", json!([{"reference": (old_link.as_str())}]));
        new.set("status", "draft");
        new.set("intent", "plan");
        for (from, to) in [("topic", "category"), ("code", "code")] {
            if let Some(value) = activity.get(from) {
                new.set(to, value);
            }
        }
        if let Some(role) = activity.at(&["participant", "role"]) {
            new.set("performerType", role);
        }
        new.set("authoredOn", now.as_str());
        new.set("requester", &instead.requester);
        new.set(
            "note",
            json!([{"authorReference": (&instead.requester), "time": (now.as_str()), "text": (instead.reason.as_str())}]),
        );
        let mut revoked = old;
        revoked.set("status", "revoked");
        let provenance = choice(&Choice {
            target: &new_link,
            instead_of: &old_link,
            reason: &instead.reason,
            who: &instead.requester,
            now: &now,
        });
        self.put_resource(revoked).await?;
        self.put_resource(new.clone()).await?;
        self.put_resource(provenance).await?;
        Ok(new)
    }

    /// What each answer gave.
    fn points(&self, response: &Json, parameters: &mut Vec<Json>) {
        let Some(instrument) = self.facade().rules.instrument(response) else { return };
        let Ok(answers) = Answers::from_response(instrument, response) else { return };
        for score in score(instrument, &answers).scores {
            for given in score.contributions.iter().filter(|given| given.is_item) {
                let Some(points) = given.points else { continue };
                let mut parts = vec![
                    json!({"name": "score", "valueString": (&*score.name)}),
                    json!({"name": "item", "valueString": (&*given.from)}),
                ];
                parts.extend(
                    given
                        .answer
                        .as_ref()
                        .map(|text| json!({"name": "answer", "valueString": (text)})),
                );
                let points = Json::Number(points.normalize().to_string().into());
                parts.push(json!({"name": "points", "valueDecimal": (points)}));
                parameters.push(json!({"name": "point", "part": (parts)}));
            }
        }
    }
}

/// A treatment that somebody chose instead of the proposed one.
struct Choice<'a> {
    target: &'a str,
    instead_of: &'a str,
    reason: &'a str,
    who: &'a Json,
    now: &'a str,
}

/// Who chose, and why.
fn choice(choice: &Choice<'_>) -> Json {
    json!({
        "resourceType": "Provenance",
        "id": (id::derived(&["Provenance", choice.target, "override", choice.instead_of])),
        "meta": {"profile": [(PROVENANCE)]},
        "target": [{"reference": (choice.target)}],
        "recorded": (choice.now),
        "reason": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}], "text": (choice.reason)}],
        "agent": [{
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "code": "author"}]},
            "who": (choice.who)
        }],
        "entity": [{"role": "revision", "what": {"reference": (choice.instead_of)}}]
    })
}

/// A clinician may write another treatment into the proposal that is decided on: a note says why,
/// and it is kept who did.
///
/// # Errors
/// [`Error::Invalid`] when no note is new.
pub(super) async fn decided(
    unit: &mut Unit<'_>,
    id: &str,
    before: &Json,
    after: &Json,
) -> Result<(), Error> {
    let is_open = |request: &Json| {
        request.str_at(&["status"]) == Some("draft")
            && request.str_at(&["intent"]) == Some("proposal")
    };
    if before.list("instantiatesCanonical").is_empty()
        || !is_open(before)
        || is_open(after)
        || levels(before.get("code")).eq(levels(after.get("code")))
    {
        return Ok(());
    }
    let known = before.list("note");
    let note = after.list("note").iter().find(|note| !known.contains(note));
    let Some(reason) = note.and_then(|note| note.str_at(&["text"])) else {
        let text = "Another treatment than the proposed one needs a note that says why.";
        let issue = Issue::error(IssueType::BusinessRule, text).at("ServiceRequest.note");
        return Err(Error::Invalid(vec![issue]));
    };
    let nobody = json!({"display": "not told"});
    let version = unit.version("ServiceRequest", id).await?.version.unwrap_or(0);
    let now = instant(unit.facade().source.now());
    let provenance = choice(&Choice {
        target: &format!("ServiceRequest/{id}"),
        instead_of: &format!("ServiceRequest/{id}/_history/{version}"),
        reason,
        who: after.get("requester").unwrap_or(&nobody),
        now: &now,
    });
    unit.put_resource(provenance).await
}
