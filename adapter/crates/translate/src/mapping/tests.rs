//! The engine over a made-up supplier, so that nothing in it depends on a real one.

use std::sync::LazyLock;

use expect_test::{Expect, expect};

use super::*;
use crate::local_time;

static DEFINITIONS: LazyLock<Definitions> = LazyLock::new(Definitions::r4);

const TABLES: &str = "\
table,column,also,kind,part,disposition,comment
Shop,Number,,text,key,mapped,
Shop,Code,,text,,mapped,
Visit,Number,No,text,key,mapped,
Visit,Shop,,text,owner,mapped,
Visit,Guest,,text,,mapped,
Visit,Day,,date,,mapped,
Visit,Hour,,time,,mapped,
Visit,Minutes,,integer,,mapped,
Visit,Colour,,text,,ignored,Nobody asks
";
const CODES: &str = "map,source,code,system,display,comment\ncolour,Red,r,s,,\n";
const VISIT: &str = "\
source,condition,value,target,type,min,comment
Number,,Number,identifier[n],identifier(visit),,
,,'usual',identifier[n].use,,,
Guest,,Guest,subject.display,,,
Day Hour,,Day,period.start,booking(Hour),1,
Day Minutes,,Day,period.end,booking(Hour Minutes),,
Shop,Guest = 'Bo','yes',extra[a].value,,,
,,'never alone',extra[a].url,url,,
";
const MAPPING: &str = r#"{
  "format": "shops", "version": "1", "ownerTable": "Shop", "ownerCode": "Code",
  "roles": {"Visit": "visit", "Shop": "shop"},
  "records": [{
    "table": "Visit",
    "joins": [{"name": "shop", "table": "Shop", "column": "Shop", "resource": "Organization", "take": ["Number"]}],
    "ignore": [{"when": "Guest = 'Test'", "rule": "test-guest"}],
    "checks": [
      {"when": "Guest.empty()", "severity": "warning", "column": "Guest", "text": "Nobody came."},
      {"when": "shop.known = false", "effect": "wait", "severity": "warning", "text": "The shop is not known yet."}
    ],
    "entries": [{"resource": "Encounter", "rules": "visit.csv", "withdraw": {"status": "cancelled"}}]
  }]
}"#;

fn source<'a>(rules: &'a [(&'a str, &'a str)]) -> Source<'a> {
    Source { mapping: MAPPING, tables: TABLES, codes: CODES, rules }
}

fn settings() -> Settings<'static> {
    Settings {
        base: "https://b".into(),
        source: "s".into(),
        zone: local_time::zone(local_time::LONDON).unwrap(),
        now: "2026-01-01T00:00:00Z".into(),
        software: "L".into(),
        provenance: false,
        wait: true,
        definitions: &DEFINITIONS,
    }
}

fn row(mapping: &Mapping, table: &str, cells: &[(&str, &str)]) -> Row {
    let cells: Object =
        cells.iter().map(|(name, text)| ((*name).into(), Json::from(*text))).collect();
    let table = mapping.layout.table(table).unwrap();
    Row {
        key: RowKey { table: table.name.clone(), key: table.key_of(&cells).unwrap() },
        file: "visits.csv".into(),
        row: 3,
        processing_id: None,
        extract_time: "".into(),
        cells,
    }
}

fn check(visit: &[(&str, &str)], with_shop: bool, expected: Expect) {
    let rules = [("visit.csv", VISIT)];
    let mapping = Mapping::parse(&source(&rules)).unwrap();
    let mut rows = RowSet::complete();
    if with_shop {
        let _ = rows.insert(row(&mapping, "Shop", &[("Number", "7"), ("Code", "Z7")]), Vec::new());
    }
    let visit = row(&mapping, "Visit", visit);
    let _ = rows.insert(visit.clone(), mapping.joined_links(&visit));
    let mapped = mapping.map(&visit, &rows, &settings());
    let mut shown = format!("{:?}\n", mapped.outcome);
    for entry in mapped.entries {
        let mut resource = entry.resource;
        let object = resource.as_object_mut().unwrap();
        assert_eq!(object.remove("id").and_then(|id| id.as_str().map(str::len)), Some(36));
        object.remove("meta");
        shown += &format!("{resource}\n");
    }
    for issue in mapped.issues {
        shown += &format!("{} at {}\n", issue.text, issue.locator.unwrap());
    }
    expected.assert_eq(&shown);
}

#[test]
fn a_record_becomes_a_resource() {
    check(
        &[
            ("Shop", "7"),
            ("Number", "1"),
            ("Guest", "Bo"),
            ("Day", "2026-07-01"),
            ("Hour", "09:00:00"),
            ("Minutes", "20"),
        ],
        true,
        expect![[r#"
            Mapped
            {"resourceType":"Encounter","identifier":[{"use":"usual","system":"https://b/Id/shops/Z7/visit","value":"1"}],"subject":{"display":"Bo"},"period":{"start":"2026-07-01T09:00:00+01:00","end":"2026-07-01T09:20:00+01:00"},"extra":[{"url":"https://b/never alone","value":"yes"}]}
        "#]],
    );
}

#[test]
fn what_is_missing_is_said() {
    check(
        &[("Shop", "7"), ("Number", "1"), ("Hour", "09:00:00")],
        true,
        expect![[r#"
        Refused
        Nobody came. at visits.csv, row 3, column Guest
        No Encounter was made, because period.start is missing or cannot be used. at visits.csv, row 3, column Day
    "#]],
    );
    check(
        &[("Shop", "7"), ("Number", "1"), ("Day", "2026-03-29"), ("Hour", "01:30:00")],
        true,
        expect![[r#"
            Refused
            Nobody came. at visits.csv, row 3, column Guest
            This booking stands in the hour that is skipped in spring, so it has no time. at visits.csv, row 3, column Day
            No Encounter was made, because period.start is missing or cannot be used. at visits.csv, row 3, column Day
        "#]],
    );
    check(
        &[("Shop", "7"), ("Number", "1"), ("Guest", "Al")],
        false,
        expect![[r#"
        Carried
        The shop is not known yet. at visits.csv, row 3
    "#]],
    );
    check(
        &[("Shop", "7"), ("Number", "1"), ("Guest", "Test")],
        true,
        expect![[r#"
        Ignored("test-guest")
    "#]],
    );
}

#[test]
fn tables_that_cannot_be_understood_are_refused() {
    let faults = [
        VISIT.replace("identifier(visit)", "identify"),
        VISIT.replace("Guest = 'Bo'", "Guest = "),
        VISIT.replace("subject.display", "subject."),
        VISIT.replace("Guest,,Guest", "Gast,,Guest"),
        VISIT.replace("identifier(visit)", "map(size)"),
        VISIT.replace(",min,", ",max,"),
    ];
    let mut shown = String::new();
    for fault in &faults {
        let rules = [("visit.csv", fault.as_str())];
        let error = Mapping::parse(&source(&rules)).unwrap_err().to_string();
        shown += &format!("{}\n", error.split(": ").take(2).collect::<Vec<_>>().join(": "));
    }
    expect![[r#"
        visit.csv, line 2: the type "identify" is unknown
        visit.csv, line 7: "Guest = "
        visit.csv, line 4: "" is no element
        columns with a wrong disposition: Gast of Visit is no column; Visit.Guest is called mapped and is not
        mapping.json: visit.csv
        visit.csv, line 1: the header is not source,condition,value,target,type,min,comment
    "#]].assert_eq(&shown);
}
