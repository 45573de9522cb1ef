//! What was sent comes back byte by byte, but for the id and the version and time of the service.

use crate::app::{TestApp, on_both};

/// Resources without white space between tokens, with the id `x` and no meta.
const TEXTS: &[&str] = &[
    // Decimals keep the digits they were written with.
    r#"{"resourceType":"Observation","id":"x","status":"final","code":{"text":"d"},"valueQuantity":{"value":1.00}}"#,
    r#"{"resourceType":"Observation","id":"x","status":"final","code":{"text":"d"},"valueQuantity":{"value":0.10}}"#,
    r#"{"resourceType":"Observation","id":"x","status":"final","code":{"text":"d"},"valueQuantity":{"value":1E3}}"#,
    r#"{"resourceType":"Observation","id":"x","status":"final","code":{"text":"d"},"valueQuantity":{"value":-1.5e-7}}"#,
    r#"{"resourceType":"Observation","id":"x","status":"final","code":{"text":"d"},"valueQuantity":{"value":0.100000000000000005551115123125782702}}"#,
    r#"{"resourceType":"Observation","id":"x","status":"final","code":{"text":"d"},"valueQuantity":{"value":123456789012345678901234567890.5}}"#,
    r#"{"resourceType":"Observation","id":"x","status":"final","code":{"text":"d"},"valueQuantity":{"value":-0.0}}"#,
    // Members keep their order.
    r#"{"resourceType":"Patient","id":"x","name":[{"given":["B","A"],"family":"Z","use":"official"}],"birthDate":"1979-08","active":true}"#,
    // Extensions, on primitives as well, and nulls that keep the place of an item.
    r#"{"resourceType":"Patient","id":"x","extension":[{"url":"http://lumbar.test/unknown","extension":[{"url":"a","valueDecimal":2.50},{"url":"b","valueBase64Binary":"AAEC"}]}],"name":[{"given":["Ada",null],"_given":[null,{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}]}]}],"birthDate":"1979-08-02","_birthDate":{"id":"q","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/patient-birthTime","valueDateTime":"1979-08-02T03:04:05.678+05:30"}]},"modifierExtension":[{"url":"http://lumbar.test/modifier","valueBoolean":false}]}"#,
    // All of Unicode, unnormalised.
    "{\"resourceType\":\"Patient\",\"id\":\"x\",\"name\":[{\"family\":\"Zo\u{eb} Zoe\u{308} \u{1F9D1}\u{200D}\u{2695}\u{FE0F} \u{5F20}\u{4F1F} \u{645}\u{631}\u{64A}\u{645} \u{202E}x\u{2028}y\u{FEFF} \u{10FFFF}\"}]}",
    r#"{"resourceType":"Patient","id":"x","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">a &lt; b &amp; \"c\"\n\t\\ </div>"}}"#,
    // Contained resources and a Bundle inside a resource's own type.
    r##"{"resourceType":"ServiceRequest","id":"x","contained":[{"resourceType":"Practitioner","id":"p","name":[{"family":"Okafor"}]}],"status":"active","intent":"order","subject":{"reference":"Patient/p1"},"requester":{"reference":"#p"}}"##,
    r#"{"resourceType":"Bundle","id":"x","type":"collection","entry":[{"fullUrl":"urn:uuid:0c4e7f1a-35f2-4c07-9a53-6c2a9d5f2b11","resource":{"resourceType":"Patient","id":"inner","meta":{"versionId":"7"}}}]}"#,
    r#"{"resourceType":"Binary","id":"x","contentType":"text/plain","data":"bm90aGluZyBpcyBsb3N0"}"#,
];

/// Without it a Binary comes back as its content.
const AS_FHIR: &[(&str, &str)] = &[("accept", "application/fhir+json")];

#[tokio::test]
async fn what_was_put_comes_back_to_the_byte() {
    on_both(async |app: &TestApp| {
        for text in TEXTS {
            let of = text.split('"').nth(3).unwrap();
            let path = format!("/fhir/{of}/x");
            app.call("DELETE", &path, &[], "").await.is(204);
            let put = app.call("PUT", &path, &[], *text).await.is(201);
            let version = put.header("etag").unwrap().trim_matches(['W', '/', '"']).to_owned();
            let written = put.json();
            let moment = written.str_at(&["meta", "lastUpdated"]).unwrap();
            let expected = text.replacen(
                r#""id":"x","#,
                &format!(
                    r#""id":"x","meta":{{"versionId":"{version}","lastUpdated":"{moment}"}},"#
                ),
                1,
            );
            assert_eq!(put.text, expected);
            for path in [path.clone(), format!("{path}/_history/{version}")] {
                let read = app.call("GET", &path, AS_FHIR, "").await.is(200);
                assert_eq!(read.text, expected, "{path} on {}", app.database);
            }
            for query in [format!("{of}?_id=x"), format!("{of}/x/_history?_count=1")] {
                let found = app.get(&query).await.is(200);
                assert!(
                    found.text.contains(&expected),
                    "{query} on {}: {}",
                    app.database,
                    found.text
                );
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_posted_alone_or_in_a_bundle_comes_back_to_the_byte() {
    on_both(async |app: &TestApp| {
        for text in TEXTS {
            let of = text.split('"').nth(3).unwrap();
            let posted = app.call("POST", &format!("/fhir/{of}"), &[], *text).await.is(201).json();
            let bundle = format!(
                r#"{{"resourceType":"Bundle","type":"transaction","entry":[{{"request":{{"method":"POST","url":"{of}"}},"resource":{text}}}]}}"#
            );
            let answer = app.call("POST", "/fhir", &[], bundle).await.is(200).json();
            let location = answer.list("entry")[0].str_at(&["response", "location"]).unwrap();
            let bundled = location.split('/').rev().nth(2).unwrap().to_owned();
            for id in [posted.str_at(&["id"]).unwrap().to_owned(), bundled] {
                let path = format!("/fhir/{of}/{id}");
                let read = app.call("GET", &path, AS_FHIR, "").await.is(200);
                let json = read.json();
                let moment = json.str_at(&["meta", "lastUpdated"]).unwrap();
                let expected = text.replacen(
                    r#""id":"x","#,
                    &format!(r#""id":"{id}","meta":{{"versionId":"1","lastUpdated":"{moment}"}},"#),
                    1,
                );
                assert_eq!(read.text, expected, "on {}", app.database);
            }
        }
    })
    .await;
}

/// White space and escapes may be written otherwise; what they say stays. What stands in meta stays.
#[tokio::test]
async fn other_ways_to_write_the_same_say_the_same() {
    on_both(async |app: &TestApp| {
        let sent = "{ \"resourceType\" : \"Patient\",\r\n\t\"meta\": {\"profile\": [\"http://lumbar.test/p\"], \"versionId\": \"5\", \"security\": [{\"code\": \"R\"}]},\n \"id\":\"x\", \"name\": [ {\"family\": \"\\u00e9\\ud83d\\ude00\\/\\u0041\"} ] }";
        let read = app.call("PUT", "/fhir/Patient/x", &[], sent).await.is(201).json();
        assert_eq!(read.list("name")[0].str_at(&["family"]), Some("é😀/A"));
        assert_eq!(read.at(&["meta"]).unwrap().list("profile")[0].as_str(), Some("http://lumbar.test/p"));
        assert_eq!(read.at(&["meta"]).unwrap().list("security")[0].str_at(&["code"]), Some("R"));
        assert_eq!(read.str_at(&["meta", "versionId"]), Some("1"));
    })
    .await;
}
