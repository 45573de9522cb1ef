use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn check(kind: Kind, raw: &str, expected: Expect) {
    let cell = kind.read(raw);
    let value = cell.value.map_or("nothing".to_string(), |value| value.to_string());
    let fault = cell.fault.map_or(String::new(), |fault| format!(" {}", fault.code));
    expected.assert_eq(&format!("{value}{fault}"));
}

#[test]
fn cells_are_read_by_their_kind() {
    check(
        Kind::Guid,
        "{46386B92-6643-55C5-9F24-DE2554449D1E}",
        expect![[r#""46386b92-6643-55c5-9f24-de2554449d1e""#]],
    );
    check(Kind::Guid, "not-a-guid", expect!["nothing BPA-ID-002"]);
    check(Kind::Date, "2026-03-02", expect![[r#""2026-03-02""#]]);
    check(Kind::Date, "31/02/1968", expect!["nothing BPA-TIME-001"]);
    check(Kind::Date, "44537", expect![[r#""2021-12-07" BPA-TIME-001"#]]);
    check(Kind::Time, "0.458333333333333", expect![[r#""11:00:00" BPA-TIME-001"#]]);
    check(Kind::Time, "25:00:00", expect!["nothing BPA-TIME-001"]);
    check(Kind::DateTime, "2025-04-26 06:35:16", expect![[r#""2025-04-26T06:35:16""#]]);
    check(Kind::Boolean, "True", expect!["true"]);
    check(Kind::Boolean, "1", expect!["nothing BPA-CODE-001"]);
    check(Kind::Decimal, "7.50", expect!["7.50"]);
    check(Kind::Decimal, "-.5", expect!["-0.5"]);
    check(Kind::Decimal, "007", expect!["7"]);
    check(Kind::Decimal, "1e3", expect!["nothing BPA-CODE-001"]);
    check(Kind::Decimal, "7.", expect!["7"]);
    check(Kind::Code, "900000000000001009", expect![[r#""900000000000001009""#]]);
    check(Kind::SnomedConcept, "1777541000006110", expect!["nothing BPA-CODE-002"]);
    check(Kind::NhsNumber, "999 120 3002", expect![[r#""999 120 3002" BPA-ID-001"#]]);
    check(Kind::Text, " Verbal\r\nx ", expect![[r#""Verbal\nx""#]]);
    check(Kind::Text, "  ", expect!["nothing"]);
}

#[test]
fn a_layout_without_a_reason_is_refused() {
    let text = "table,column,also,kind,part,disposition,comment\nT,C,,text,key,carried,\n";
    let error = Layout::parse("t.csv", text).unwrap_err();
    assert_eq!(error.to_string(), "t.csv, line 2: T.C is Carried without a reason");
}

#[test]
fn a_row_of_the_same_file_with_a_lower_processing_id_does_not_win() {
    let row = |id: i64, text: &str| Row {
        key: RowKey { table: "T".into(), key: "|1".into() },
        file: "f.csv".into(),
        row: 1,
        processing_id: Some(id),
        extract_time: "".into(),
        cells: [("C".into(), Json::from(text))].into_iter().collect(),
    };
    let mut rows = RowSet::complete();
    assert!(rows.insert(row(2, "second"), Vec::new()).is_none());
    assert!(rows.insert(row(1, "first"), Vec::new()).is_some());
    let key = row(1, "").key;
    assert_eq!(rows.get(&key).and_then(|row| row.text("C")), Some("second"));
    assert!(rows.earlier(&key).is_empty());
    rows.insert(row(3, "third"), Vec::new());
    assert_eq!(rows.earlier(&key).len(), 1);
}

proptest! {
    #[test]
    fn no_text_panics(raw in ".{0,30}") {
        for kind in [
            Kind::Guid, Kind::Date, Kind::Time, Kind::DateTime, Kind::Boolean, Kind::Decimal,
            Kind::Integer, Kind::Code, Kind::SnomedConcept, Kind::SnomedDescription,
            Kind::NhsNumber, Kind::Text,
        ] {
            let _ = kind.read(&raw);
        }
    }

    #[test]
    fn a_number_that_is_read_is_a_json_number(raw in r"[-+]?[0-9]{0,4}\.?[0-9]{0,4}") {
        if let Some(value) = Kind::Decimal.read(&raw).value {
            prop_assert_eq!(&Json::parse(value.to_string().as_bytes()).unwrap(), &value);
        }
    }
}
