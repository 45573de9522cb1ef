//! Subscriptions: <https://hl7.org/fhir/R4/subscription.html>.
//!
//! A client asks (`requested`) and ends (`off`); the service does the rest. It checks what is asked
//! for, shakes hands with the endpoint by a job and makes the subscription `active`. Each write
//! that matches is a job in the write's own commit. When the endpoint fails too often the
//! subscription becomes `error`; what is due waits, in order, until the client asks again or an
//! operator has it replayed.
//!
//! R4 says nothing of these operations, which are ours: `$status` tells what waits and why,
//! `$replay` has it sent again.

mod channel;
mod criteria;

use lumbar_fhir::{Issue, IssueType, Json, json};
use lumbar_store::{Listed, State};

use super::operation::Call;
use super::{ATTEMPTS, Error, Facade, Reply, Unit, outbox};
use crate::security::Caller;
pub use channel::{Channel, Payload};
pub(super) use criteria::{Active, Written};

/// No job is counted further than to this.
const MOST_COUNTED: usize = 10_000;
/// Most notifications that `$status` shows of each kind.
const MOST_SHOWN: usize = 100;

/// What follows from a Subscription that is written: it is checked, and its jobs are enqueued.
///
/// # Errors
/// [`Error::Invalid`] when it asks for what cannot be.
pub(super) async fn written(
    unit: &mut Unit<'_>,
    id: &str,
    after: Option<&Json>,
) -> Result<(), Error> {
    let facade = unit.facade();
    let now = facade.source.now();
    let version = unit.version("Subscription", id).await?.version.unwrap_or(0) + 1;
    let Some(after) = after else {
        unit.enqueue(outbox::forgotten(id, version, now));
        return Ok(());
    };
    let status = after.str_at(&["status"]).unwrap_or_default();
    if !is_on(after) {
        return Ok(());
    }
    let before = unit.before("Subscription", id).await?;
    if !unit.by_service {
        let same =
            |name: &str| before.as_ref().and_then(|before| before.get(name)) == after.get(name);
        if status == "active" && !["status", "criteria", "channel", "end"].into_iter().all(same) {
            return Err(Error::Invalid(vec![
                Issue::error(
                    IssueType::BusinessRule,
                    "Only the service makes a subscription active, once its endpoint has answered; submit it with the status requested, also to change an active one.",
                )
                .at("Subscription.status"),
            ]));
        }
        check(facade, after).await?;
        let most = facade.policy.limits.subscriptions;
        if !before.as_ref().is_some_and(is_on) && facade.active().await?.count >= most {
            return Err(Error::Invalid(vec![Issue::error(
                IssueType::TooCostly,
                format!(
                    "There are {most} subscriptions already, the most that the operator allows (--max-subscriptions); turn one off first."
                ),
            )]));
        }
        if let Some(end) = criteria::end(after) {
            unit.enqueue(outbox::end(id, version, end));
        }
    }
    if status == "requested" {
        unit.enqueue(outbox::handshake(id, version, now));
    }
    Ok(())
}

/// Whether a Subscription asks to be told of something, now or later.
fn is_on(subscription: &Json) -> bool {
    matches!(subscription.str_at(&["status"]), Some("requested" | "active" | "error"))
}

/// Checks what a Subscription asks for.
async fn check(facade: &Facade, subscription: &Json) -> Result<(), Error> {
    let mut issues = Vec::new();
    let criteria = subscription.str_at(&["criteria"]).unwrap_or_default();
    issues.extend(facade.criteria(criteria).await.err().into_iter().flatten());
    let channel = Channel::read(subscription, &facade.policy.subscriptions.hosts);
    issues.extend(channel.err().into_iter().flatten());
    if issues.is_empty() { Ok(()) } else { Err(Error::Invalid(issues)) }
}

/// A change of status that is the service's to make.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The status that it starts from; from another one nothing is changed.
    pub from: &'a [&'a str],
    /// The version that it starts from, where that matters.
    pub version: Option<i64>,
    /// The new status.
    pub to: &'a str,
    /// What went wrong, for `Subscription.error`.
    pub error: Option<&'a str>,
}

impl Facade {
    /// Changes the status of a subscription; `false` when it is not where the step starts.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn step(&self, caller: &Caller, id: &str, step: Step<'_>) -> Result<bool, Error> {
        let (Caller::Open | Caller::System) = caller;
        let mut attempt = 1;
        loop {
            let mut unit = Unit::new(self);
            unit.by_service = true;
            let Some(mut subscription) = unit.read("Subscription", id).await? else {
                return Ok(false);
            };
            let version = unit.version("Subscription", id).await?.version;
            let status = subscription.str_at(&["status"]).unwrap_or_default();
            if !step.from.contains(&status) || step.version.is_some_and(|of| version != Some(of)) {
                return Ok(false);
            }
            subscription.set("status", step.to);
            match step.error {
                Some(error) => subscription.set("error", error),
                None => {
                    let object = subscription.as_object_mut();
                    object.and_then(|subscription| subscription.remove("error"));
                }
            }
            unit.put("Subscription", id, subscription);
            match unit.commit().await {
                Err(Error::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                result => return result.map(|_| true),
            }
        }
    }

    /// `$status` and `$replay`.
    pub(super) async fn subscription(&self, call: &Call<'_>) -> Result<Reply, Error> {
        let Some(id) = call.id else {
            return Err(Error::Unparseable(vec![Issue::error(
                IssueType::Required,
                format!("Say which subscription: Subscription/[id]/${}.", call.name),
            )]));
        };
        if call.name == "replay" {
            if !call.post {
                return Err(Error::MethodNotAllowed(&["POST"]));
            }
            self.replay(id).await?;
        }
        self.standing(id).await
    }

    /// Has everything sent that waits or was given up.
    async fn replay(&self, id: &str) -> Result<(), Error> {
        let subscription = self.current(id).await?;
        let (destination, now) = (outbox::subscription(id), self.source.now());
        match subscription.str_at(&["status"]) {
            Some("off") => {
                return Err(Error::Invalid(vec![
                    Issue::error(
                        IssueType::BusinessRule,
                        "The subscription is off; set its status to requested, and what waits is sent.",
                    )
                    .at("Subscription.status"),
                ]));
            }
            Some("error") => {
                self.jobs.replay(&destination, now).await?;
                let step = Step { from: &["error"], version: None, to: "requested", error: None };
                self.step(&Caller::System, id, step).await?;
            }
            _ => {
                self.jobs.replay(&destination, now).await?;
                self.jobs.release(&destination, now).await?;
            }
        }
        self.enqueued.notify_one();
        Ok(())
    }

    /// How a subscription stands, and its notifications that were not delivered.
    async fn standing(&self, id: &str) -> Result<Reply, Error> {
        let subscription = self.current(id).await?;
        let destination = outbox::subscription(id);
        let counts = self.jobs.counts(&destination, MOST_COUNTED).await?;
        let mut shown = Vec::new();
        for state in [State::GivenUp, State::Running, State::Waiting] {
            shown.extend(self.jobs.of_destination(&destination, state, MOST_SHOWN).await?);
        }
        // Behind one that is held all others are, too.
        let held = shown.iter().any(Listed::is_held);
        let (waiting, failed) =
            if held { (0, counts.open + counts.given_up) } else { (counts.open, counts.given_up) };
        let mut parameters = vec![
            json!({"name": "status", "valueCode": (subscription.str_at(&["status"]).unwrap_or_default())}),
            count("waiting", waiting),
            count("delivered", counts.done),
            count("failed", failed),
        ];
        if let Some(error) = subscription.str_at(&["error"]) {
            parameters.insert(1, json!({"name": "error", "valueString": (error)}));
        }
        parameters.extend(shown.iter().map(notification));
        Ok(Reply::of(&json!({"resourceType": "Parameters", "parameter": (parameters)})))
    }

    async fn current(&self, id: &str) -> Result<Json, Error> {
        let body = self.read("Subscription", id).await?.body;
        body.and_then(|body| Json::parse(body.as_bytes()).ok()).ok_or(Error::Internal)
    }
}

fn count(name: &str, count: u64) -> Json {
    json!({"name": (name), "valueUnsignedInt": (i64::try_from(count).unwrap_or(i64::MAX))})
}

/// A notification as `$status` shows it: which version is to be sent, and how far that is.
fn notification(listed: &Listed) -> Json {
    let state = match listed.state {
        _ if listed.is_held() => "held",
        State::Waiting => "waiting",
        State::Running => "running",
        State::Done => "done",
        State::GivenUp => "given-up",
    };
    let body = Json::parse(listed.job.body.as_bytes()).unwrap_or(Json::Null);
    let text = |name| body.str_at(&[name]).unwrap_or_default();
    let version = body.get("version").and_then(Json::as_i64).unwrap_or_default();
    let reference = format!("{}/{}/_history/{version}", text("type"), text("id"));
    let mut part = vec![
        json!({"name": "resource", "valueReference": {"reference": (reference)}}),
        json!({"name": "state", "valueCode": (state)}),
        json!({"name": "attempts", "valueUnsignedInt": (listed.job.attempts)}),
    ];
    if !listed.reason.is_empty() {
        part.push(json!({"name": "reason", "valueString": (listed.reason.as_str())}));
    }
    json!({"name": "notification", "part": (part)})
}
