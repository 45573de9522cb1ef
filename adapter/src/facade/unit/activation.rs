//! What nobody may be asked by: Tasks (<https://hl7.org/fhir/R4/task.html>) that put a
//! Questionnaire to a person, and responses to one that is not there to be answered.
//!
//! A Task that is open, names a person (`for` or `owner`) and a Questionnaire (`focus`, or a
//! canonical or reference of an `input`) is refused as long as nobody may be asked by it. One that
//! was open before with the same Questionnaire may go on a fortnight longer than its wording's
//! licence, and may always be ended. Whether the answers are right is not looked at here.

use lumbar_fhir::{Issue, IssueType, Json};

use super::Unit;
use crate::config::ID_BASE;
use crate::facade::Error;
use crate::wording::Purpose;

/// Status of a Task that somebody is to do.
const OPEN: [&str; 6] = ["requested", "received", "accepted", "ready", "in-progress", "on-hold"];
/// Elements of an `input` that can name a Questionnaire.
const VALUES: [&str; 3] = ["valueCanonical", "valueUri", "valueUrl"];

impl Unit<'_> {
    /// Refuses a response to a Questionnaire that asks nothing, with the Questionnaire's reason.
    pub(super) fn check_response(&self, resource: &Json) -> Result<(), Error> {
        let text = |name: &str| resource.str_at(&[name]).unwrap_or_default();
        let is_response = text("resourceType") == "QuestionnaireResponse";
        if !is_response || text("status") == "entered-in-error" {
            return Ok(());
        }
        let form = self.facade.rules.questionnaire(text("questionnaire"));
        let asks = |item: &Json| item.str_at(&["type"]) != Some("display");
        let Some(form) = form.filter(|form| !form.list("item").iter().any(asks)) else {
            return Ok(());
        };
        let (facade, purpose) = (self.facade, Purpose::Finish);
        match facade.wording().refusal(form, facade.today(), purpose) {
            Some(reason) => {
                let issue = Issue::error(IssueType::BusinessRule, reason);
                Err(Error::Invalid(vec![issue.at("QuestionnaireResponse.questionnaire")]))
            }
            None => Ok(()),
        }
    }

    /// Refuses Tasks that ask people by what they must not be asked by.
    ///
    /// # Errors
    /// [`Error::Invalid`], with one issue for each.
    pub(super) async fn check_tasks(&mut self) -> Result<(), Error> {
        let is_task = |change: &&super::Pending| change.resource_type == "Task";
        let tasks: Vec<(String, Json)> = self
            .changes
            .iter()
            .filter(is_task)
            .filter_map(|task| Some((task.id.clone(), task.after.clone()?)))
            .collect();
        let mut issues = Vec::new();
        for (id, task) in tasks {
            let asked = asked(&task);
            if asked.is_empty() {
                continue;
            }
            let before = self.before("Task", &id).await?;
            let before = before.as_ref().map(self::asked).unwrap_or_default();
            for (expression, named) in asked {
                let begun = before.iter().any(|(_, before)| *before == named);
                let purpose = if begun { Purpose::Finish } else { Purpose::Begin };
                let Some(form) = self.form(&named).await? else { continue };
                let facade = self.facade;
                if let Some(reason) = facade.wording().refusal(&form, facade.today(), purpose) {
                    issues.push(Issue::error(IssueType::BusinessRule, reason).at(expression));
                }
            }
        }
        if issues.is_empty() { Ok(()) } else { Err(Error::Invalid(issues)) }
    }

    /// The Questionnaire that a reference or canonical names: ours as they are shipped, before what
    /// is stored.
    async fn form(&mut self, named: &str) -> Result<Option<Json>, Error> {
        let named = named.split('|').next().unwrap_or_default();
        let named = named.split("/_history/").next().unwrap_or_default();
        let id = named
            .strip_prefix(self.facade.base())
            .or_else(|| named.strip_prefix(ID_BASE))
            .map_or(named, |rest| rest.trim_start_matches('/'));
        let url = match id.starts_with("Questionnaire/") {
            true => format!("{ID_BASE}/{id}"),
            false => named.to_owned(),
        };
        if let Some(form) = self.facade.rules.questionnaire(&url) {
            return Ok(Some(form.clone()));
        }
        if let Some(form) = self.resolve(id).await? {
            return Ok(Some(form));
        }
        let parameters = [("url".to_owned(), named.to_owned())];
        Ok(self.find("Questionnaire", &parameters, 1).await?.pop())
    }
}

/// Where an open Task names a Questionnaire that a person is to answer, and what it says there.
fn asked(task: &Json) -> Vec<(String, String)> {
    let is_open = task.str_at(&["status"]).is_some_and(|status| OPEN.contains(&status));
    if !is_open || (task.get("for").is_none() && task.get("owner").is_none()) {
        return Vec::new();
    }
    let mut named = Vec::new();
    let mut look = |expression: String, text: Option<&str>| {
        let is_form = |text: &&str| text.split('/').any(|part| part == "Questionnaire");
        named.extend(text.filter(is_form).map(|text| (expression, text.to_owned())));
    };
    look("Task.focus".to_owned(), task.str_at(&["focus", "reference"]));
    for (index, input) in task.list("input").iter().enumerate() {
        let at = format!("Task.input[{index}].value");
        look(at.clone(), input.str_at(&["valueReference", "reference"]));
        VALUES.iter().for_each(|name| look(at.clone(), input.str_at(&[name])));
    }
    named
}
