//! The request that a pathway proposes: <https://hl7.org/fhir/R4/servicerequest.html>.

use lumbar_fhir::{Issue, IssueType, Json, Object, json};

use super::{Pathway, reference};
use crate::id;

/// Everything that one request is made from.
pub(super) struct Proposal<'a> {
    pub plan: &'a Pathway,
    pub rule: &'a str,
    /// The ActivityDefinition.
    pub activity: &'a Json,
    pub referral: Option<&'a Json>,
    pub reasons: Vec<&'a Json>,
    /// The sentence that says why.
    pub text: Option<&'a str>,
    pub found: &'a [(String, Vec<Json>)],
}

impl Proposal<'_> {
    /// The request. When the same request was found already, only authored at another time, it is
    /// that one; so applying a pathway again changes nothing.
    pub fn request(&self, now: &str) -> Result<Json, Issue> {
        let missing = || {
            let text = format!("The rule {} makes a request, but there is no referral.", self.rule);
            Issue::error(IssueType::BusinessRule, text)
        };
        let referral = self.referral.ok_or_else(missing)?;
        let referral_id = referral.str_at(&["id"]).ok_or_else(missing)?;
        let id = id::derived(&["ServiceRequest", referral_id, &self.plan.url]);
        let earlier = self.found.iter().flat_map(|(_, list)| list).find(|resource| {
            resource.str_at(&["resourceType"]) == Some("ServiceRequest")
                && resource.str_at(&["id"]) == Some(&id)
        });
        if let Some(earlier) = earlier
            && let Some(authored) = earlier.str_at(&["authoredOn"])
        {
            let again = self.authored(referral, &id, authored);
            if same(earlier, &again) {
                return Ok(again);
            }
        }
        Ok(self.authored(referral, &id, now))
    }

    /// The request with its elements in the order of the standard.
    fn authored(&self, referral: &Json, id: &str, authored: &str) -> Json {
        let mut request = Object::new();
        request.set("resourceType", "ServiceRequest");
        request.set("id", id);
        let mut meta = Object::new();
        if let Some(profile) = self.activity.str_at(&["profile"]) {
            meta.set("profile", json!([(profile)]));
        }
        if let Some(security) = self.security(referral) {
            meta.set("security", security);
        }
        if !meta.is_empty() {
            request.set("meta", meta);
        }
        let canonical = format!("{}|{}", self.plan.url, self.plan.version);
        request.set("instantiatesCanonical", json!([(canonical)]));
        if let Some(reference) = reference(referral) {
            request.set("basedOn", json!([{"reference": (reference)}]));
        }
        request.set("status", "draft");
        request.set("intent", "proposal");
        let mut copy = |from: Option<&Json>, to: &str| {
            if let Some(value) = from {
                request.set(to, value);
            }
        };
        copy(self.activity.get("topic"), "category");
        copy(self.activity.get("priority"), "priority");
        copy(self.activity.get("code"), "code");
        copy(referral.get("subject"), "subject");
        request.set("authoredOn", authored);
        // Until a clinician confirms it, who asked for care asked for this. One that is contained in
        // the referral cannot be named from here.
        let requester = referral.get("requester").filter(|requester| {
            !requester.str_at(&["reference"]).is_some_and(|link| link.starts_with('#'))
        });
        if let Some(requester) = requester {
            request.set("requester", requester);
        }
        if let Some(role) = self.activity.at(&["participant", "role"]) {
            request.set("performerType", role);
        }
        let reasons = self.reasons.iter().filter_map(|resource| reference(resource));
        let reasons: Vec<Json> = reasons.map(|reason| json!({"reference": (reason)})).collect();
        if !reasons.is_empty() {
            request.set("reasonReference", reasons);
        }
        let approval = (!self.plan.approval.is_approved())
            .then_some("The pathway's rules have no local clinical approval.");
        let usage = self.activity.str_at(&["usage"]);
        let notes = [self.text, usage, approval].into_iter().flatten();
        let notes: Vec<Json> = notes.map(|text| json!({"text": (text)})).collect();
        if !notes.is_empty() {
            request.set("note", notes);
        }
        Json::Object(request)
    }

    /// The labels of the referral and of the reasons: what follows from restricted data is as
    /// restricted as they are.
    fn security(&self, referral: &Json) -> Option<Json> {
        let mut labels: Vec<Json> = Vec::new();
        for resource in std::iter::once(referral).chain(self.reasons.iter().copied()) {
            let found = resource.get("meta").map(|meta| meta.list("security")).unwrap_or_default();
            for label in found {
                if !labels.contains(label) {
                    labels.push(label.clone());
                }
            }
        }
        (!labels.is_empty()).then_some(Json::Array(labels))
    }
}

/// The same request, said to have been a mistake.
pub(super) fn withdrawn(request: &Json) -> Json {
    let mut request = request.clone();
    request.set("status", "entered-in-error");
    request
}

/// Whether two resources say the same; what a server keeps about them (`meta`) and the narrative do
/// not count.
fn same(one: &Json, other: &Json) -> bool {
    let members = |json: &Json| -> Vec<(String, Json)> {
        let members = json.as_object().into_iter().flat_map(Object::iter);
        let members = members.filter(|(name, _)| !matches!(*name, "meta" | "text"));
        let mut members: Vec<_> =
            members.map(|(name, value)| (name.to_owned(), value.clone())).collect();
        members.sort_by(|a, b| a.0.cmp(&b.0));
        members
    };
    members(one) == members(other)
}
