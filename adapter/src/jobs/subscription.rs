//! Jobs about subscriptions: shake hands, tell of a resource, end.
//!
//! R4's rest-hook: without a payload the endpoint gets a POST without content; with one it is the
//! base of a FHIR service, and the resource is put there (<https://hl7.org/fhir/R4/subscription.html>).

use lumbar_fhir::datetime::DateTime;
use lumbar_fhir::format::xml;
use lumbar_fhir::rest::Interaction;
use lumbar_fhir::{Json, json};
use lumbar_store::Job;

use super::Ending;
use crate::app::App;
use crate::config::SubscriptionPayload;
use crate::delivery::{RestHook, Sent};
use crate::facade::subscription::{Channel, Payload, Step};
use crate::facade::{Preferences, outbox};
use crate::security::Caller;

/// Asks the endpoint of a requested subscription whether it is there, and makes it active.
pub async fn handshake(app: &App, hook: &RestHook, job: &Job, body: &Json) -> Ending {
    match try_handshake(app, hook, job, body).await {
        Ok(ending) | Err(ending) => ending,
    }
}

async fn try_handshake(
    app: &App,
    hook: &RestHook,
    job: &Job,
    body: &Json,
) -> Result<Ending, Ending> {
    let (id, version) = named(body)?;
    let Some(subscription) = load(app, id).await? else { return Ok(Ending::Done) };
    let status = subscription.str_at(&["status"]);
    let is = subscription.str_at(&["meta", "versionId"]).and_then(|text| text.parse().ok());
    // Also after a crash between becoming active and the release.
    if status == Some("active") {
        return release(app, id).await;
    }
    if status != Some("requested") || is != Some(version) || has_ended(app, &subscription) {
        return Ok(Ending::Done);
    }
    let step = |to, error| Step { from: &["requested"], version: Some(version), to, error };
    let (to, error) = match greet(app, hook, job, &subscription).await {
        Ok(()) => ("active", None),
        Err(reason) => ("error", Some(reason)),
    };
    let done = app.facade.step(&Caller::System, id, step(to, error.as_deref())).await?;
    if done && to == "active" { release(app, id).await } else { Ok(Ending::Done) }
}

/// A POST without content, which must be answered with 2xx. The base of a FHIR service may refuse
/// it: there it is enough that the service says what it can.
async fn greet(app: &App, hook: &RestHook, job: &Job, subscription: &Json) -> Result<(), String> {
    let channel = channel(app, subscription)?;
    let id = request_id(job);
    let status = hook.send(Sent::Ping, channel.endpoint(), &channel.headers, &id).await?;
    if is_success(status) {
        return Ok(());
    }
    if channel.payload.is_some() && matches!(status, 400 | 404 | 405 | 406 | 411 | 415 | 422) {
        let url = channel.below("metadata");
        if is_success(hook.send(Sent::Ask, &url, &channel.headers, &id).await?) {
            return Ok(());
        }
    }
    Err(answered(status))
}

/// Tells a subscriber of a resource.
pub async fn notification(app: &App, hook: &RestHook, job: &Job, body: &Json) -> Ending {
    match try_notification(app, hook, job, body).await {
        Ok(ending) | Err(ending) => ending,
    }
}

async fn try_notification(
    app: &App,
    hook: &RestHook,
    job: &Job,
    body: &Json,
) -> Result<Ending, Ending> {
    let (id, version) = named(body)?;
    let Some(subscription) = load(app, id).await? else {
        return Ok(Ending::GiveUp("The subscription was deleted.".to_owned()));
    };
    let status = subscription.str_at(&["status"]).unwrap_or_default();
    if status != "active" || has_ended(app, &subscription) {
        return Ok(Ending::Hold(format!("The subscription is {status}, so nothing is sent.")));
    }
    let (of, of_id) = (text(body, "type"), text(body, "id"));
    let told = match channel(app, &subscription) {
        Ok(channel) => {
            let send = async |sent, url: &str| {
                hook.send(sent, url, &channel.headers, &request_id(job)).await
            };
            match (channel.payload, app.settings.policy.subscriptions.payload) {
                (None, _) => send(Sent::Ping, channel.endpoint()).await,
                (Some(payload), SubscriptionPayload::Full) => {
                    let resource = stored(app, of, of_id, version).await?;
                    let resource = in_form(app, payload, resource)?;
                    let url = channel.below(&format!("{of}/{of_id}"));
                    send(Sent::Put(&resource, payload.media_type()), &url).await
                }
                // An update would replace what the receiver has by nothing, so this is none.
                (Some(payload), SubscriptionPayload::IdOnly) => {
                    let resource = json!({"resourceType": (of), "id": (of_id)}).to_string();
                    let resource = in_form(app, payload, resource)?;
                    let sent = Sent::Post(&resource, payload.media_type());
                    send(sent, channel.endpoint()).await
                }
            }
        }
        Err(reason) => Err(reason),
    };
    let reason = match told {
        Ok(status) if is_success(status) => return Ok(Ending::Done),
        Ok(status) => answered(status),
        Err(reason) => reason,
    };
    if tries(app, job) < limit(app) {
        return Ok(Ending::Later(reason));
    }
    let error = format!("{reason} It was tried {} times; what is due waits.", limit(app));
    let step = Step { from: &["active"], version: None, to: "error", error: Some(&error) };
    app.facade.step(&Caller::System, id, step).await?;
    Ok(Ending::Hold(reason))
}

/// Turns a subscription off when its end has come.
pub async fn end(app: &App, body: &Json) -> Ending {
    match try_end(app, body).await {
        Ok(ending) | Err(ending) => ending,
    }
}

async fn try_end(app: &App, body: &Json) -> Result<Ending, Ending> {
    let (id, _) = named(body)?;
    // Its end may have been changed; then there is another job.
    if let Some(subscription) = load(app, id).await?
        && has_ended(app, &subscription)
    {
        let from = &["requested", "active", "error"];
        let step = Step { from, version: None, to: "off", error: None };
        app.facade.step(&Caller::System, id, step).await?;
    }
    Ok(Ending::Done)
}

/// Gives up what waited for a subscription that was deleted.
pub async fn forgotten(app: &App, job: &Job, body: &Json) -> Ending {
    let Ok((id, _)) = named(body) else { return Ending::Done };
    let reason = "The subscription was deleted.";
    match app.jobs.abandon(&outbox::subscription(id), job.id, reason).await {
        Ok(()) => Ending::Done,
        Err(error) => crate::facade::Error::from(error).into(),
    }
}

/// A notification was held. It was released for nothing if the subscription became active between
/// the look at its status and the hold, so one looks again.
pub async fn held(app: &App, body: &Json) -> Result<(), Ending> {
    let (id, _) = named(body)?;
    match load(app, id).await? {
        Some(subscription)
            if subscription.str_at(&["status"]) == Some("active")
                && !has_ended(app, &subscription) =>
        {
            release(app, id).await.map(|_| ())
        }
        _ => Ok(()),
    }
}

/// How often a notification was tried since it was last held.
pub fn tries(app: &App, job: &Job) -> i64 {
    (job.attempts - 1).rem_euclid(limit(app)) + 1
}

fn limit(app: &App) -> i64 {
    i64::try_from(app.settings.policy.subscriptions.attempts).unwrap_or(i64::MAX).max(1)
}

async fn release(app: &App, id: &str) -> Result<Ending, Ending> {
    let released = app.jobs.release(&outbox::subscription(id), app.facade.now()).await;
    released.map_err(crate::facade::Error::from)?;
    Ok(Ending::Done)
}

async fn load(app: &App, id: &str) -> Result<Option<Json>, Ending> {
    Ok(app.facade.get(&Caller::System, "Subscription", id).await?)
}

/// The version that matched, as it was stored.
async fn stored(app: &App, of: &str, id: &str, version: i64) -> Result<String, Ending> {
    let vread = Interaction::Vread {
        resource_type: of.to_owned(),
        id: id.to_owned(),
        version,
        parameters: Vec::new(),
    };
    let reply = app.facade.perform(&Caller::System, &vread, Preferences::default()).await?;
    let body = reply.body.map(|body| body.to_string());
    body.ok_or_else(|| Ending::GiveUp("The version that matched is not there.".to_owned()))
}

/// A resource in the form that a subscriber asked for.
fn in_form(app: &App, payload: Payload, resource: String) -> Result<String, Ending> {
    let has_none =
        || Ending::GiveUp("The version that matched cannot be written as XML.".to_owned());
    match payload {
        Payload::Json => Ok(resource),
        Payload::Xml => {
            let tree = Json::parse(resource.as_bytes()).map_err(|_| has_none())?;
            xml::write(&app.facade.definitions(), &tree).map_err(|_| has_none())
        }
    }
}

fn channel(app: &App, subscription: &Json) -> Result<Channel, String> {
    Channel::read(subscription, &app.settings.policy.subscriptions.hosts).map_err(|issues| {
        issues.first().map_or("The channel cannot be used.".to_owned(), |issue| issue.text.clone())
    })
}

fn named(body: &Json) -> Result<(&str, i64), Ending> {
    let unreadable = || Ending::GiveUp("The job's body cannot be read.".to_owned());
    let version = body.get("version").and_then(Json::as_i64).ok_or_else(unreadable)?;
    Ok((body.str_at(&["subscription"]).ok_or_else(unreadable)?, version))
}

fn text<'a>(body: &'a Json, name: &str) -> &'a str {
    body.str_at(&[name]).unwrap_or_default()
}

fn has_ended(app: &App, subscription: &Json) -> bool {
    let end = subscription.str_at(&["end"]).and_then(DateTime::parse);
    end.is_some_and(|end| end.bounds().0 <= app.facade.now())
}

/// By which a receiver knows a notification that it was sent before.
fn request_id(job: &Job) -> String {
    lumbar_clinical::id::derived(&["notification", &job.key])
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

fn answered(status: u16) -> String {
    format!("The endpoint answered {status}.")
}
