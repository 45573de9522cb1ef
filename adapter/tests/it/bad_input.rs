//! Input that is wrong: the status tells whose fault it is, the OperationOutcome what to do, and
//! nothing is stored.

mod cost;

use lumbar_fhir::Json;

use crate::app::{Reply, TestApp, on_both, on_both_with};

/// Issue types: <https://hl7.org/fhir/R4/valueset-issue-type.html>.
const CODES: [&str; 31] = [
    "invalid",
    "structure",
    "required",
    "value",
    "invariant",
    "security",
    "login",
    "unknown",
    "expired",
    "forbidden",
    "suppressed",
    "processing",
    "not-supported",
    "duplicate",
    "multiple-matches",
    "not-found",
    "deleted",
    "too-long",
    "code-invalid",
    "extension",
    "too-costly",
    "business-rule",
    "conflict",
    "transient",
    "lock-error",
    "no-store",
    "exception",
    "timeout",
    "incomplete",
    "throttled",
    "informational",
];

struct Bad {
    name: &'static str,
    method: &'static str,
    path: String,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
}

fn bad(
    name: &'static str,
    request: &str,
    body: impl Into<Vec<u8>>,
    status: u16,
    code: &'static str,
) -> Bad {
    let (method, path) = request.split_once(' ').unwrap();
    let method = ["GET", "POST", "PUT", "DELETE"].into_iter().find(|m| *m == method).unwrap();
    Bad { name, method, path: path.to_owned(), body: body.into(), status, code }
}

fn inputs() -> Vec<Bad> {
    let post = "POST /fhir/Patient";
    let deep = |open: &str, close: &str| {
        format!(
            r#"{{"resourceType":"Patient","extension":{}1{}}}"#,
            open.repeat(10_000),
            close.repeat(10_000)
        )
    };
    let mut bads = vec![
        bad("no JSON", post, "{", 400, "structure"),
        bad("broken off", post, r#"{"resourceType":"Patient","active":tr"#, 400, "structure"),
        bad("more than one value", post, r#"{"resourceType":"Patient"} {}"#, 400, "structure"),
        bad("trailing comma", post, r#"{"resourceType":"Patient",}"#, 400, "structure"),
        bad(
            "NaN",
            post,
            r#"{"resourceType":"Patient","multipleBirthInteger":NaN}"#,
            400,
            "structure",
        ),
        bad(
            "leading zero",
            post,
            r#"{"resourceType":"Patient","multipleBirthInteger":01}"#,
            400,
            "structure",
        ),
        bad(
            "lone surrogate",
            post,
            r#"{"resourceType":"Patient","language":"\ud800"}"#,
            400,
            "structure",
        ),
        bad(
            "raw control character",
            post,
            "{\"resourceType\":\"Patient\",\"language\":\"a\u{1}b\"}",
            400,
            "structure",
        ),
        bad(
            "repeated member",
            post,
            r#"{"resourceType":"Patient","active":true,"active":false}"#,
            400,
            "structure",
        ),
        bad(
            "repeated member, escaped",
            post,
            r#"{"resourceType":"Patient","active":true,"\u0061ctive":false}"#,
            400,
            "structure",
        ),
        bad(
            "invalid UTF-8",
            post,
            b"{\"resourceType\":\"Patient\",\"language\":\"\xff\xfe\"}".to_vec(),
            400,
            "structure",
        ),
        bad(
            "overlong UTF-8",
            post,
            b"{\"resourceType\":\"Patient\",\"language\":\"\xc0\xaf\"}".to_vec(),
            400,
            "structure",
        ),
        bad("UTF-16", post, b"\xff\xfe{\0}\0".to_vec(), 400, "structure"),
        bad("an array", post, r#"[{"resourceType":"Patient"}]"#, 400, "structure"),
        bad("a text", post, r#""Patient""#, 400, "structure"),
        bad("a number", post, "1", 400, "structure"),
        bad("null", post, "null", 400, "structure"),
        bad("no body", post, "", 400, "required"),
        bad("no resourceType", post, r#"{"active":true}"#, 400, "structure"),
        bad("resourceType a number", post, r#"{"resourceType":1}"#, 400, "structure"),
        bad("another type", post, r#"{"resourceType":"Observation"}"#, 400, "invalid"),
        bad(
            "unknown type",
            "POST /fhir/Nonsense",
            r#"{"resourceType":"Nonsense"}"#,
            404,
            "not-supported",
        ),
        bad(
            "abstract type",
            "POST /fhir/DomainResource",
            r#"{"resourceType":"DomainResource"}"#,
            404,
            "not-supported",
        ),
        bad(
            "an id that differs",
            "PUT /fhir/Patient/a",
            r#"{"resourceType":"Patient","id":"b"}"#,
            400,
            "invalid",
        ),
        bad(
            "an id that is no text",
            "PUT /fhir/Patient/1",
            r#"{"resourceType":"Patient","id":1}"#,
            400,
            "invalid",
        ),
        bad("no id", "PUT /fhir/Patient/a", r#"{"resourceType":"Patient"}"#, 400, "required"),
        bad(
            "an id that is none",
            "PUT /fhir/Patient/a%20b",
            r#"{"resourceType":"Patient","id":"a b"}"#,
            400,
            "value",
        ),
        bad(
            "an id too long",
            &format!("PUT /fhir/Patient/{}", "a".repeat(65)),
            format!(r#"{{"resourceType":"Patient","id":"{}"}}"#, "a".repeat(65)),
            400,
            "value",
        ),
        bad("nested arrays, 10,000 deep", post, deep("[", "]"), 400, "structure"),
        bad("nested objects, 10,000 deep", post, deep(r#"{"extension":"#, "}"), 400, "structure"),
        bad("10,000 open brackets", post, "[".repeat(10_000), 400, "structure"),
        bad("broken encoding in the path", "GET /fhir/Patient/%zz", "", 400, "invalid"),
        bad("encoding that breaks off", "GET /fhir/Patient/a%4", "", 400, "invalid"),
        bad("encoding of no UTF-8", "GET /fhir/Patient/%ff", "", 400, "invalid"),
        bad("broken encoding in the query", "GET /fhir/Patient?family=%e", "", 400, "invalid"),
        bad("encoded slash and dots", "GET /fhir/Patient/..%2F..%2Fetc", "", 400, "value"),
        bad("a zero byte", "GET /fhir/Patient/a%00", "", 400, "value"),
        bad("a bulk job of no UTF-8", "GET /fhir/$bulk/%ff", "", 400, "invalid"),
        bad("a bulk file of no UTF-8", "GET /fhir/$bulk/a/%ff", "", 400, "invalid"),
        bad(
            "a URL with too many parts above it",
            &format!("GET /fhir/ValueSet?url:above=http://a{}", "/a".repeat(200)),
            "",
            400,
            "too-costly",
        ),
        bad(
            "a version with too many parts above it",
            &format!(
                "GET /fhir/QuestionnaireResponse?questionnaire:above=http://a/b%7C1{}",
                ".1".repeat(200)
            ),
            "",
            400,
            "too-costly",
        ),
        bad(
            "a text filter too long",
            &format!("GET /fhir/ValueSet/$expand?url=a&filter={}", "a+".repeat(1000)),
            "",
            400,
            "value",
        ),
        bad(
            "a search parameter with a code too long",
            "POST /fhir/SearchParameter",
            format!(
                r#"{{"resourceType":"SearchParameter","url":"http://x.test/s","name":"s","status":"active","description":"s","code":"{}","base":["Patient"],"type":"string","expression":"Patient.name.family"}}"#,
                "a".repeat(65)
            ),
            422,
            "business-rule",
        ),
        bad("_count no number", "GET /fhir/Patient?_count=abc", "", 400, "value"),
        bad("_count negative", "GET /fhir/Patient?_count=-1", "", 400, "value"),
        bad("a cursor that nobody gave", "GET /fhir/Patient?_cursor=nonsense", "", 400, "value"),
        bad("a date that is none", "GET /fhir/Patient?birthdate=2026-13-01", "", 400, "value"),
        bad("a day that is none", "GET /fhir/Patient?birthdate=2026-02-30", "", 400, "value"),
        bad("a date for _lastUpdated", "GET /fhir/Patient?_lastUpdated=soon", "", 400, "value"),
        bad("a number that is none", "GET /fhir/RiskAssessment?probability=high", "", 400, "value"),
        bad(
            "a modifier that is none",
            "GET /fhir/Patient?active:nonsense=true",
            "",
            400,
            "not-supported",
        ),
        bad(
            "an endless chain",
            "GET /fhir/Observation?subject.general-practitioner.partof.partof.partof.name=x",
            "",
            400,
            "too-costly",
        ),
        bad(
            "too many values",
            &format!("GET /fhir/Patient?family={}", vec!["a"; 5000].join(",")),
            "",
            400,
            "too-costly",
        ),
        bad("no bundle", "POST /fhir", r#"{"resourceType":"Patient"}"#, 400, "invalid"),
        bad(
            "a bundle to keep",
            "POST /fhir",
            r#"{"resourceType":"Bundle","type":"collection"}"#,
            400,
            "value",
        ),
        bad(
            "an entry that is null",
            "POST /fhir",
            r#"{"resourceType":"Bundle","type":"transaction","entry":[null]}"#,
            400,
            "required",
        ),
        bad(
            "entries that are no list",
            "POST /fhir",
            r#"{"resourceType":"Bundle","type":"transaction","entry":{"request":{"method":"POST","url":"Patient"},"resource":{"resourceType":"Patient"}}}"#,
            400,
            "structure",
        ),
        bad(
            "a bundle in a bundle",
            "POST /fhir",
            r#"{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"POST","url":""},"resource":{"resourceType":"Bundle","type":"batch"}}]}"#,
            400,
            "not-supported",
        ),
        bad(
            "a method that is none",
            "POST /fhir",
            r#"{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"TRACE","url":"Patient"}}]}"#,
            400,
            "required",
        ),
        bad(
            "If-None-Exist unreadable",
            "POST /fhir",
            r#"{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"POST","url":"Patient","ifNoneExist":"birthdate=never"},"resource":{"resourceType":"Patient"}}]}"#,
            400,
            "value",
        ),
    ];
    let many: Vec<String> = (0..10_001)
        .map(|_| {
            r#"{"request":{"method":"POST","url":"Basic"},"resource":{"resourceType":"Basic"}}"#
                .to_owned()
        })
        .collect();
    let many =
        format!(r#"{{"resourceType":"Bundle","type":"transaction","entry":[{}]}}"#, many.join(","));
    bads.push(bad("too many entries", "POST /fhir", many, 400, "too-costly"));
    bads
}

/// What is wrong with an error's answer; empty when nothing is.
fn complaints(reply: &Reply, status: u16, code: &str) -> Vec<String> {
    let mut out = Vec::new();
    if reply.status != status {
        out.push(format!("status {} instead of {status}", reply.status));
    }
    if reply.header("content-type") != Some("application/fhir+json; charset=utf-8") {
        out.push(format!("content type {:?}", reply.header("content-type")));
    }
    let Ok(outcome) = Json::parse(reply.text.as_bytes()) else {
        out.push(format!("no JSON: {}", reply.text));
        return out;
    };
    if outcome.str_at(&["resourceType"]) != Some("OperationOutcome") {
        out.push("no OperationOutcome".to_owned());
    }
    let issues = outcome.list("issue");
    if issues.is_empty() {
        out.push("no issue".to_owned());
    }
    for issue in issues {
        if !matches!(issue.str_at(&["severity"]), Some("error" | "fatal")) {
            out.push(format!("severity {:?}", issue.get("severity")));
        }
        if !CODES.contains(&issue.str_at(&["code"]).unwrap_or_default()) {
            out.push(format!("code {:?}", issue.get("code")));
        }
        let text = issue.str_at(&["details", "text"]).unwrap_or_default();
        if text.len() < 10 || text.len() > 1000 {
            out.push(format!("text {text:?}"));
        }
    }
    let first = issues.first().and_then(|issue| issue.str_at(&["code"]));
    if first != Some(code) {
        out.push(format!("code {first:?} instead of {code}"));
    }
    out
}

#[tokio::test]
async fn is_refused_and_leaves_nothing_behind() {
    on_both(async |app: &TestApp| {
        let mut failed = Vec::new();
        let mut stored = 0;
        for bad in inputs() {
            let reply = app.call(bad.method, &bad.path, &[], bad.body).await;
            let complaints = complaints(&reply, bad.status, bad.code);
            if !complaints.is_empty() {
                let answer: String = reply.text.chars().take(300).collect();
                failed.push(format!("{}: {}\n    {answer}", bad.name, complaints.join("; ")));
            }
            let before = stored;
            stored = 0;
            for of in ["Patient", "Observation", "Basic", "Bundle"] {
                stored += app.count(of).await;
            }
            if stored != before {
                failed.push(format!("{}: something was stored", bad.name));
            }
        }
        assert!(
            failed.is_empty(),
            "on {}, {} inputs:\n{}",
            app.database,
            failed.len(),
            failed.join("\n")
        );
    })
    .await;
}

/// A very large search is answered or refused, never a fault of the service.
#[tokio::test]
async fn a_very_large_search_is_no_fault_of_ours() {
    on_both(async |app: &TestApp| {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let many = |name: &str, join: &str| vec![name; 100_000].join(join);
        for body in [
            format!("_id={}", many("a", ",")),
            format!("identifier={}", many("a", ",")),
            many("family=a", "&"),
            many("_has:Observation:subject:status=final", "&"),
            many("_include=Patient:general-practitioner", "&"),
            format!("_sort={}", many("family", ",")),
        ] {
            let reply = app.call("POST", "/fhir/Patient/_search", &form, body.clone()).await;
            let text: String = reply.text.chars().take(300).collect();
            assert!(
                matches!(reply.status, 200 | 400),
                "{}… on {}: {} {text}",
                &body[..40],
                app.database,
                reply.status
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    on_both_with(
        |settings| settings.max_body_bytes = 1000,
        async |app: &TestApp| {
            let body = |size: usize| {
                let rest = r#"{"resourceType":"Patient","identifier":[{"value":""}]}"#.len();
                format!(
                    r#"{{"resourceType":"Patient","identifier":[{{"value":"{}"}}]}}"#,
                    "x".repeat(size - rest)
                )
            };
            let reply = app.call("POST", "/fhir/Patient", &[], body(1001)).await;
            assert_eq!(complaints(&reply, 413, "too-long"), Vec::<String>::new());
            assert_eq!(app.count("Patient").await, 0);
            app.call("POST", "/fhir/Patient", &[], body(1000)).await.is(201);
        },
    )
    .await;
}

/// An answer never repeats what it was sent: a name in a body is no part of a message about it.
#[tokio::test]
async fn errors_do_not_repeat_the_body() {
    on_both(async |app: &TestApp| {
        for body in [
            r#"{"resourceType":"Patient","name":[{"family":"Quillfeather"}"#,
            r#"{"resourceType":"Patient","name":[{"family":"Quillfeather"}],"name":[]}"#,
            r#"{"resourceType":"Patient","name":[{"family":Quillfeather}]}"#,
            r#"["Quillfeather"]"#,
        ] {
            let reply = app.call("POST", "/fhir/Patient", &[], body).await.is(400);
            assert!(!reply.text.contains("Quillfeather"), "{}", reply.text);
        }
    })
    .await;
}

/// XML that no reader should be hurt by.
#[tokio::test]
async fn bad_xml_is_refused_and_leaves_nothing_behind() {
    let patient =
        |inner: &str| format!(r#"<Patient xmlns="http://hl7.org/fhir">{inner}</Patient>"#);
    let deep = "<extension url=\"a\">".repeat(10_000);
    let laughs: String = (1..10)
        .map(|index| format!(r#"<!ENTITY l{index} "{}">"#, format!("&l{};", index - 1).repeat(10)))
        .collect();
    let attributes: String = (0..100_000).map(|index| format!(" a{index}=\"\"")).collect();
    let spaces: String = (0..100_000).map(|index| format!(" xmlns:a{index}=\"b\"")).collect();
    let bodies: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no XML", b"{}".to_vec(), "structure"),
        ("blanks", b" \n".to_vec(), "structure"),
        ("broken off", patient("")[..30].into(), "structure"),
        ("not closed", patient("<name>").into(), "structure"),
        (
            "invalid UTF-8",
            b"<Patient xmlns=\"http://hl7.org/fhir\">\xff</Patient>".to_vec(),
            "structure",
        ),
        ("a control character", patient("<language value=\"\u{1}\"/>").into(), "structure"),
        ("a zero by number", patient("<language value=\"&#0;\"/>").into(), "structure"),
        ("nested 10,000 deep", patient(&deep).into(), "structure"),
        (
            "10,000 divs",
            patient(&format!(
                "<text><div xmlns=\"http://www.w3.org/1999/xhtml\">{}",
                "<p>".repeat(10_000)
            ))
            .into(),
            "structure",
        ),
        ("100,000 attributes", patient(&format!("<name{attributes}/>")).into(), "too-costly"),
        ("100,000 namespaces", patient(&format!("<name{spaces}/>")).into(), "too-costly"),
        (
            "a thousand million laughs",
            format!(
                "<!DOCTYPE l [<!ENTITY l0 \"ha\">{laughs}]>{}",
                patient("<language value=\"&l9;\"/>")
            )
            .into(),
            "structure",
        ),
        (
            "an outer entity",
            format!(
                "<!DOCTYPE l [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>{}",
                patient("<language value=\"&a;\"/>")
            )
            .into(),
            "structure",
        ),
        (
            "an outer DTD",
            format!("<!DOCTYPE l SYSTEM \"http://lumbar.test/x.dtd\">{}", patient("")).into(),
            "structure",
        ),
        ("an unknown element", patient("<nonsense/>").into(), "structure"),
        ("an empty element", patient("<birthDate/>").into(), "required"),
        ("no boolean", patient("<active value=\"1\"/>").into(), "value"),
        (
            "another encoding",
            format!("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>{}", patient("")).into(),
            "not-supported",
        ),
    ];
    on_both(async |app: &TestApp| {
        let mut failed = Vec::new();
        for (name, body, code) in &bodies {
            let headers = [("content-type", "application/fhir+xml")];
            let reply = app.call("POST", "/fhir/Patient", &headers, body.clone()).await;
            let complaints = complaints(&reply, 400, code);
            if !complaints.is_empty() {
                failed.push(format!("{name}: {}", complaints.join("; ")));
            }
        }
        for body in [
            "<family value=\"Quillfeather",
            "<family value=\"Quillfeather\"/>Quillfeather",
            "<active value=\"Quillfeather\"/>",
        ] {
            let headers = [("content-type", "application/fhir+xml")];
            let reply = app.call("POST", "/fhir/Patient", &headers, patient(body)).await.is(400);
            assert!(!reply.text.contains("Quillfeather"), "{}", reply.text);
        }
        assert_eq!(app.count("Patient").await, 0);
        assert!(failed.is_empty(), "on {}:\n{}", app.database, failed.join("\n"));
    })
    .await;
}

/// HEAD, which is safe, does not do what GET begins.
#[tokio::test]
async fn head_begins_no_export() {
    on_both(async |app: &TestApp| {
        let headers = [("prefer", "respond-async")];
        for path in ["/fhir/$export", "/fhir/Patient/$export", "/fhir/Group/g/$export"] {
            let reply = app.call("HEAD", path, &headers, "").await.is(405);
            assert_eq!(reply.header("allow"), Some("GET, POST"), "{path}");
        }
    })
    .await;
}

/// A body in an encoding is not taken for one without.
#[tokio::test]
async fn an_encoded_body_is_415() {
    on_both(async |app: &TestApp| {
        let headers = [("content-type", "application/fhir+json"), ("content-encoding", "gzip")];
        let body = r#"{"resourceType":"Patient"}"#;
        let reply = app.call("POST", "/fhir/Patient", &headers, body).await;
        assert_eq!(complaints(&reply, 415, "not-supported"), Vec::<String>::new());
        assert_eq!(app.count("Patient").await, 0);
    })
    .await;
}
