//! Requests whose cost would grow faster than their length: they are bounded.

use super::complaints;
use crate::app::{TestApp, on_both, on_both_with};

/// Value sets that import each other several times each, with one at the end that nobody knows:
/// each is worked out once, not once for each way to it.
#[tokio::test]
async fn value_sets_are_tried_once_each() {
    on_both(async |app: &TestApp| {
        for index in 0..12 {
            let next = format!(r#"{{"valueSet":["http://x.test/vs/{}"]}}"#, index + 1);
            let body = format!(
                r#"{{"resourceType":"ValueSet","id":"e{index}","url":"http://x.test/vs/{index}","status":"active","compose":{{"include":[{}]}}}}"#,
                vec![next; 10].join(",")
            );
            app.call("PUT", &format!("/fhir/ValueSet/e{index}"), &[], body).await.is(201);
        }
        for path in ["$expand?", "$validate-code?system=http://x.test/c&code=a&"] {
            let path = format!("/fhir/ValueSet/{path}url=http://x.test/vs/0");
            let reply = app.call("GET", &path, &[], "").await;
            assert_eq!(complaints(&reply, 422, "not-found"), Vec::<String>::new(), "{path}");
        }
    })
    .await;
}

/// A value set may not have the codes of another copied or compared without end.
#[tokio::test]
async fn importing_many_times_costs_each_time() {
    on_both(async |app: &TestApp| {
        let codes: Vec<String> = (0..1000).map(|code| format!(r#"{{"code":"c{code}"}}"#)).collect();
        let system = format!(
            r#"{{"resourceType":"CodeSystem","id":"c","url":"http://x.test/c","status":"active","content":"complete","concept":[{}]}}"#,
            codes.join(",")
        );
        app.call("PUT", "/fhir/CodeSystem/c", &[], system).await.is(201);
        let all = r#"{"resourceType":"ValueSet","id":"all","url":"http://x.test/all","status":"active","compose":{"include":[{"system":"http://x.test/c"}]}}"#;
        app.call("PUT", "/fhir/ValueSet/all", &[], all).await.is(201);
        let import = r#"{"valueSet":["http://x.test/all"]}"#;
        let nothing = r#"{"system":"http://x.test/c","concept":[{"code":"c0"}]}"#;
        for (include, exclude) in [(vec![import; 3000], vec![nothing]), (vec![import], vec![nothing; 3000])] {
            let body = format!(
                r#"{{"resourceType":"Parameters","parameter":[{{"name":"count","valueInteger":1}},{{"name":"valueSet","resource":{{"resourceType":"ValueSet","status":"active","compose":{{"include":[{}],"exclude":[{}]}}}}}}]}}"#,
                include.join(","),
                exclude.join(",")
            );
            let reply = app.call("POST", "/fhir/ValueSet/$expand", &[], body).await;
            assert_eq!(complaints(&reply, 422, "too-costly"), Vec::<String>::new());
        }
    })
    .await;
}

/// Patches whose cost would grow faster than their length.
#[tokio::test]
async fn patches_cost_no_more_than_they_may() {
    on_both(async |app: &TestApp| {
        let entries = vec![r#"{"item":{"display":"a"}}"#; 8000].join(",");
        let list = format!(
            r#"{{"resourceType":"List","id":"l","status":"current","mode":"working","entry":[{entries}]}}"#
        );
        app.call("PUT", "/fhir/List/l", &[], list).await.is(201);
        let json = [("content-type", "application/json-patch+json")];
        let text = format!(r#"{{"op":"add","path":"/title","value":"{}"}}"#, "x".repeat(100_000));
        let copies: Vec<String> = (0..900)
            .map(|index| format!(r#"{{"op":"copy","from":"/title","path":"/x{index}"}}"#))
            .collect();
        let copies = format!("[{text},{}]", copies.join(","));
        let reply = app.call("PATCH", "/fhir/List/l", &json, copies).await;
        assert_eq!(complaints(&reply, 422, "too-costly"), Vec::<String>::new());
        let members = |numbers: &mut dyn Iterator<Item = u32>| {
            let members: Vec<String> = numbers.map(|number| format!("\"a{number}\":1")).collect();
            format!("{{{}}}", members.join(","))
        };
        let test = format!(
            r#"[{{"op":"add","path":"/m","value":{}}},{{"op":"test","path":"/m","value":{}}},{{"op":"remove","path":"/m"}}]"#,
            members(&mut (0..20_000)),
            members(&mut (0..20_000).rev())
        );
        app.call("PATCH", "/fhir/List/l", &json, test).await.is(200);
        let fhir = [("content-type", "application/fhir+json")];
        let patch = |count: usize| {
            let operation = r#"{"name":"operation","part":[{"name":"type","valueCode":"move"},{"name":"path","valueString":"List.entry"},{"name":"source","valueInteger":0},{"name":"destination","valueInteger":7999}]}"#;
            let operations = vec![operation; count].join(",");
            format!(r#"{{"resourceType":"Parameters","parameter":[{operations}]}}"#)
        };
        app.call("PATCH", "/fhir/List/l", &fhir, patch(3)).await.is(200);
    })
    .await;
}

/// The answers of a Bundle's entries are bounded together, not only each.
#[tokio::test]
async fn a_bundle_answers_no_more_than_it_may() {
    on_both_with(
        |settings| settings.policy.limits.response_bytes = 10_000,
        async |app: &TestApp| {
            let patient = format!(
                r#"{{"resourceType":"Patient","id":"a","name":[{{"family":"{}"}}]}}"#,
                "x".repeat(5000)
            );
            app.call("PUT", "/fhir/Patient/a", &[], patient).await.is(201);
            let entries = [r#"{"request":{"method":"GET","url":"Patient?_id=a"}}"#; 5].join(",");
            let bundle = |kind: &str| {
                format!(r#"{{"resourceType":"Bundle","type":"{kind}","entry":[{entries}]}}"#)
            };
            let reply = app.call("POST", "/fhir", &[], bundle("batch")).await.is(200).json();
            let statuses: Vec<&str> = reply
                .list("entry")
                .iter()
                .filter_map(|entry| entry.str_at(&["response", "status"]))
                .map(|status| &status[..3])
                .collect();
            assert_eq!(statuses, ["200", "200", "400", "400", "400"]);
            let reply = app.call("POST", "/fhir", &[], bundle("transaction")).await;
            assert_eq!(complaints(&reply, 400, "too-costly"), Vec::<String>::new());
        },
    )
    .await;
}
