//! Where an element stands in the text that it was read from:
//! <https://hl7.org/fhir/R4/operationoutcome-definitions.html#OperationOutcome.issue.expression>.
//!
//! The tree knows no places, which keeps it small. When there is something to tell, the text is
//! read once more along the ways of the expressions (`expression`), and nothing else of it. An
//! element that is not there has the place of the nearest one around it.

use std::borrow::Cow;

use super::expression::Wanted;
use super::{json, xml};
use crate::Issue;

/// The syntax of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Syntax {
    Json,
    Xml,
}

/// Sets line and column of the issues that name an element and have none. `below` is where the
/// resource stands in the text that they are about, for example `Parameters.parameter[0].resource`;
/// empty when it is the whole of it. A text that cannot be read leaves them as they are.
pub fn locate(syntax: Syntax, bytes: &[u8], below: &str, issues: &mut [Issue]) {
    let mut wanted = Wanted::new();
    let mut places = Vec::new();
    for (number, issue) in issues.iter().enumerate() {
        if issue.position.is_none()
            && let Some(node) = issue.expression.as_deref().and_then(|text| wanted.add(below, text))
        {
            places.push((number, node));
        }
    }
    if places.is_empty() {
        return;
    }
    let text = match syntax {
        Syntax::Json => json::text(bytes).map(Cow::Borrowed),
        Syntax::Xml => xml::text(bytes).ok(),
    };
    let Some(text) = text else { return };
    match syntax {
        Syntax::Json => json::locate(&text, &mut wanted),
        Syntax::Xml => xml::locate(&text, &mut wanted),
    }
    let found =
        places.into_iter().filter_map(|(number, node)| Some((wanted.offset(node)?, number)));
    let mut found: Vec<(usize, usize)> = found.collect();
    found.sort_unstable();
    let (mut line, mut column, mut read) = (1_u32, 1_u32, 0);
    for (offset, number) in found {
        for byte in text.as_bytes().get(read..offset).unwrap_or_default() {
            match byte {
                b'\n' => (line, column) = (line.saturating_add(1), 1),
                // A byte that continues a character.
                0x80..0xc0 => {}
                _ => column = column.saturating_add(1),
            }
        }
        read = offset;
        if let Some(issue) = issues.get_mut(number) {
            issue.position = Some((line, column));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::IssueType;

    const JSON: &str = r#"{
  "resourceType": "Bundle",
  "entry": [
    {"fullUrl": "urn:x"},
    {
      "resource": {
        "resourceType": "Observation", "id": "ö", "valueQuantity": {"value": 1},
        "_status": {"extension": [{"url": "a"}]}, "status": "final",
        "category": [{"text": "a"}, {"text": "]}"}],
        "_issued": {"id": "x"}
      }
    }
  ]
}"#;
    const XML: &str = r#"<Bundle xmlns="http://hl7.org/fhir">
  <!-- <entry/> -->
  <entry><fullUrl value="urn:x"/></entry>
  <entry>
    <resource>
      <Observation>
        <id value="ö"/><status value="final"><extension url="a"/></status>
        <category><text value="a"/></category>
        <category><text value="]>"/></category>
        <valueQuantity><value value="1"/></valueQuantity>
      </Observation>
    </resource>
  </entry>
</Bundle>"#;

    fn place(syntax: Syntax, text: &str, expression: &str) -> Option<(u32, u32)> {
        let issue = Issue::error(IssueType::Value, "x").at(expression);
        let mut issues = [issue];
        locate(syntax, text.as_bytes(), "", &mut issues);
        issues[0].position
    }

    #[track_caller]
    fn begins(text: &str, position: Option<(u32, u32)>, with: &str) {
        let (line, column) = position.unwrap();
        let line = text.lines().nth(line as usize - 1).unwrap();
        let rest: String = line.chars().skip(column as usize - 1).collect();
        assert!(rest.starts_with(with), "{with} is not at {position:?}, but {rest}");
    }

    #[test]
    fn an_element_is_found_in_either_form() {
        let of = "Bundle.entry[1].resource";
        for (expression, json, xml) in [
            ("Bundle", "{", "<Bundle xmln"),
            ("Bundle.entry", "\"entry\": [", "<entry><full"),
            ("Bundle.entry[0]", "{\"fullUrl\": ", "<entry><full"),
            ("Bundle.entry[1]", "{", "<entry>"),
            ("Bundle.entry[7].fullUrl", "\"entry\": [", "<entry><full"),
            (of, "\"resource\": ", "<resource>"),
            (&format!("{of}.id"), "\"id\": \"ö\", ", "<id value=\"ö"),
            (&format!("{of}.status"), "\"status\": \"f", "<status valu"),
            (&format!("{of}.status.extension[0].url"), "\"url\": \"a\"}]", "<extension u"),
            (&format!("{of}.value"), "\"valueQuanti", "<valueQuanti"),
            (&format!("{of}.value.ofType(Quantity).value"), "\"value\": 1},", "<value value"),
            (
                &format!("{of}.ofType(Observation).category[1].text"),
                "\"text\": \"]}\"",
                "<text value=",
            ),
            (&format!("{of}/*Observation/x*/.category[0]"), "{\"text\": \"a\"", "<category><t"),
            (&format!("{of}.subject.reference"), "\"resource\": ", "<resource>"),
            (&format!("{of}.category[0].where(true)"), "{\"text\": \"a\"", "<category><t"),
        ] {
            begins(JSON, place(Syntax::Json, JSON, expression), json);
            begins(XML, place(Syntax::Xml, XML, expression), xml);
        }
        let beside = place(Syntax::Json, JSON, "Bundle.entry[1].resource.issued");
        begins(JSON, beside, "\"_issued\": {");
        assert_eq!(place(Syntax::Json, JSON, "http._id"), None);
        assert_eq!(place(Syntax::Json, "{\"a\":", "Bundle.a.b"), Some((1, 2)));
    }

    #[test]
    fn a_resource_within_parameters_has_its_place_there() {
        let text = r#"{"resourceType":"Parameters","parameter":[{"name":"mode"},{"name":"resource","resource":{"resourceType":"Patient","id":"x"}}]}"#;
        let mut issues = [Issue::error(IssueType::Value, "x").at("Patient.id")];
        locate(Syntax::Json, text.as_bytes(), "Parameters.parameter[1].resource", &mut issues);
        begins(text, issues[0].position, "\"id\":\"x\"");
    }

    proptest! {
        #[test]
        fn no_text_or_expression_panics(text in ".{0,80}", expression in "A[a-c.\\[\\]0-9()/*']{0,20}") {
            place(Syntax::Json, &text, &expression);
            place(Syntax::Xml, &text, &expression);
        }

        #[test]
        fn a_broken_text_does_not_panic(cut in 0..600_usize) {
            for (syntax, text) in [(Syntax::Json, JSON), (Syntax::Xml, XML)] {
                let cut: String = text.chars().take(cut).collect();
                place(syntax, &cut, "Bundle.entry[1].resource.category[1].text");
            }
        }
    }
}
