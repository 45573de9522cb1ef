//! Search of one type: <https://hl7.org/fhir/R4/http.html#search>.
//!
//! The Bundle is written around the stored texts, which are not read again.

use std::fmt::Write;
use std::sync::Arc;

use lumbar_fhir::format::json::write_string;
use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::rest::encode_pairs;
use lumbar_fhir::search::Search;
use lumbar_fhir::{Issue, IssueType};
use lumbar_store::Stored;

use super::{Error, Facade, Reply, Success};

/// What is searched.
pub(super) struct Scope<'a> {
    /// `None` for all types.
    pub(super) resource_type: Option<&'a str>,
    /// Type and id of the resource whose compartment it is.
    pub(super) compartment: Option<&'a (String, String)>,
}

impl Facade {
    pub(super) async fn search(
        &self,
        scope: Scope<'_>,
        parameters: &[(String, String)],
        strict: bool,
    ) -> Result<Reply, Error> {
        let (Some(resource_type), None) = (scope.resource_type, scope.compartment) else {
            return Err(Error::NotSupported(Issue::error(
                IssueType::NotSupported,
                "Searches of all types and of compartments are not offered.",
            )));
        };
        let Search { mut query, mut used, ignored } =
            self.parse_search(resource_type, parameters, strict).await?;
        let count_only = query.count == 0
            || parameters.iter().any(|(name, value)| name == "_summary" && value == "count");
        if count_only {
            query.total = true;
            query.count = 1;
        }
        // Whole resources are given, so the self link does not claim parts of them.
        used.retain(|(name, value)| match name.as_str() {
            "_summary" => matches!(value.as_str(), "count" | "false"),
            name => name != "_elements",
        });
        let mut page = self.resources.search(&query).await?;
        if count_only {
            page.matches.clear();
            page.next = None;
        }
        let included = self.included(&query.resource_type, parameters, &page.matches).await?;

        let bytes: usize = page.matches.iter().chain(&included).map(length).sum();
        let mut out = String::with_capacity(bytes + 512);
        out.push_str(r#"{"resourceType":"Bundle","type":"searchset""#);
        if let Some(total) = page.total {
            let _ = write!(out, r#","total":{total}"#);
        }
        let link = |out: &mut String, relation: &str, cursor: Option<String>| {
            let mut pairs = used.clone();
            pairs.extend(cursor.map(|cursor| ("_cursor".to_owned(), cursor)));
            let query = encode_pairs(&pairs);
            let mark = if query.is_empty() { "" } else { "?" };
            let _ = write!(out, r#"{{"relation":"{relation}","url":"#);
            write_string(out, &format!("{}/{resource_type}{mark}{query}", self.base));
            out.push('}');
        };
        out.push_str(r#","link":["#);
        link(&mut out, "self", query.cursor.clone());
        if let Some(next) = page.next {
            out.push(',');
            link(&mut out, "next", Some(next));
        }
        out.push(']');

        let mut separator = r#","entry":["#;
        for (stored, mode) in page
            .matches
            .iter()
            .map(|stored| (stored, "match"))
            .chain(included.iter().map(|stored| (stored, "include")))
        {
            let Some(body) = &stored.body else { continue };
            out.push_str(separator);
            separator = ",";
            out.push_str(r#"{"fullUrl":"#);
            write_string(
                &mut out,
                &format!("{}/{}/{}", self.base, stored.resource_type, stored.id),
            );
            let _ = write!(out, r#","resource":{body},"search":{{"mode":"{mode}"}}}}"#);
        }
        if !ignored.is_empty() {
            let outcome = operation_outcome(&ignored);
            let _ =
                write!(out, r#"{separator}{{"resource":{outcome},"search":{{"mode":"outcome"}}}}"#);
            separator = ",";
        }
        out.push_str(if separator == "," { "]}" } else { "}" });
        Ok(Reply { body: Some(Arc::from(out)), ..Reply::empty(Success::Ok) })
    }
}

fn length(stored: &Stored) -> usize {
    stored.body.as_ref().map_or(0, |body| body.len() + 160)
}
