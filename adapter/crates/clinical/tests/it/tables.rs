//! What a scoring table can say, on small tables of no real instrument.

use expect_test::{Expect, expect};
use lumbar_clinical::{Answers, Scored, ScoringTable, score};
use lumbar_fhir::{Json, json};

/// A table with three items of 0 to 3 and what `more` adds or replaces.
fn rules(more: &Json) -> Json {
    let item = |id: &str| json!({"linkId": (id), "label": (id), "options": "level"});
    let answers: Vec<Json> =
        (0..4).map(|n| json!({"code": (n.to_string()), "value": (n), "label": "level"})).collect();
    let mut table = json!({
        "id": "made-up", "version": "1.0.0", "title": "Made up",
        "questionnaire": "https://example.org/Questionnaire/made-up",
        "approval": {"status": "unapproved"},
        "options": {"level": {"system": "https://example.org/level", "answers": (answers)}},
        "items": [(item("a")), (item("b")), (item("c"))],
        "scores": [{"name": "sum", "label": "sum", "rule": "sum", "items": ["a", "b", "c"],
            "min": 0, "max": 9}]
    });
    for (name, value) in more.as_object().unwrap().iter() {
        table.set(name, value);
    }
    table
}

fn check(more: Json, answers: &Json, expected: Expect) {
    let table = ScoringTable::parse(&rules(&more)).unwrap();
    let mut scored = match Answers::from_map(&table, answers) {
        Ok(answers) => score::score(&table, &answers).to_json(),
        Err(refused) => Scored::refused(&refused).to_json(),
    };
    scored.as_object_mut().unwrap().remove("reasons");
    expected.assert_eq(&scored.to_string());
}

fn fault(more: Json) -> String {
    let issue = ScoringTable::parse(&rules(&more)).unwrap_err();
    format!("{} [{}]", issue.text, issue.expression.unwrap_or_default())
}

#[test]
fn prorated_half_up_from_unrounded_values() {
    let scores = json!([
        {"name": "whole", "label": "w", "rule": "prorate", "items": ["a", "b", "c"],
            "minAnswered": 2, "min": 0, "max": 9},
        {"name": "tenths", "label": "t", "rule": "mean", "items": ["a", "b", "c"],
            "minAnswered": 2, "decimals": 1, "times": 10, "min": 0, "max": 30}
    ]);
    let bands = |basis: &str| {
        json!([{"name": "band", "label": "b", "basis": (basis),
            "values": [{"value": true, "label": "yes"}, {"value": false, "label": "no"}],
            "rules": [{"value": true, "when": [{"score": "whole", "atLeast": 5}]}, {"value": false}]}])
    };
    let flags = json!([
        {"flag": "prorated", "when": [{"status": "prorated"}]},
        {"flag": "too-many-missing", "when": [{"status": "not-scored"}]}
    ]);
    let more = |basis| json!({"scores": (scores.clone()), "categories": (bands(basis)), "flags": (flags.clone())});
    // 3 × 3 / 2 = 4.5: five points as published, below five before rounding.
    let two = json!({"a": 1, "b": 2});
    check(
        more("published"),
        &two,
        expect![[
            r#"{"status":"prorated","scores":{"whole":5,"tenths":15},"categories":{"band":true},"flags":["prorated"]}"#
        ]],
    );
    check(
        more("unrounded"),
        &two,
        expect![[
            r#"{"status":"prorated","scores":{"whole":5,"tenths":15},"categories":{"band":false},"flags":["prorated"]}"#
        ]],
    );
    check(
        more("integer"),
        &two,
        expect![[
            r#"{"status":"prorated","scores":{"whole":5,"tenths":15},"categories":{"band":true},"flags":["prorated"]}"#
        ]],
    );
    check(
        more("published"),
        &json!({"a": 0, "b": 1, "c": 1}),
        expect![[
            r#"{"status":"scored","scores":{"whole":2,"tenths":6.7},"categories":{"band":false},"flags":[]}"#
        ]],
    );
    check(
        more("published"),
        &json!({"a": 3}),
        expect![[
            r#"{"status":"not-scored","scores":{"whole":null,"tenths":null},"categories":{"band":null},"flags":["too-many-missing"]}"#
        ]],
    );
}

#[test]
fn negative_halves_round_away_from_zero() {
    let items = json!([{"linkId": "a", "label": "a", "type": "integer", "min": (-5), "max": 5},
        {"linkId": "b", "label": "b", "type": "integer", "min": (-5), "max": 5}]);
    let scores = json!([{"name": "mean", "label": "m", "rule": "mean", "items": ["a", "b"],
        "min": (-5), "max": 5}]);
    let more = json!({"items": (items), "scores": (scores)});
    check(
        more.clone(),
        &json!({"a": (-2), "b": (-3)}),
        expect![[r#"{"status":"scored","scores":{"mean":-3},"categories":{},"flags":[]}"#]],
    );
    check(
        more.clone(),
        &json!({"a": 2, "b": 3}),
        expect![[r#"{"status":"scored","scores":{"mean":3},"categories":{},"flags":[]}"#]],
    );
    check(
        more,
        &json!({"a": 6, "b": 3}),
        expect![[r#"{"status":"error","scores":{},"categories":{},"flags":["invalid-answer:a"]}"#]],
    );
}

#[test]
fn several_scores_reversal_flags_and_contradictions() {
    let more = json!({
        "items": [
            {"linkId": "a", "label": "a", "options": "level"},
            {"linkId": "b", "label": "b", "options": "level", "reverse": 3},
            {"linkId": "c", "label": "c", "type": "integer", "min": 0, "max": 60,
                "points": {"0..6": 0, "7..14": 1, "15..60": 2}},
            {"linkId": "none", "label": "none of these", "type": "boolean"}
        ],
        "scores": [
            {"name": "one", "label": "one", "rule": "sum", "items": ["a", "b"], "min": 0, "max": 6},
            {"name": "two", "label": "two", "rule": "sum", "items": ["c"], "min": 0, "max": 2}
        ],
        "flags": [
            {"flag": "a-positive", "when": [{"item": "a", "atLeast": 1}]},
            {"flag": "a-unanswered", "when": [{"item": "a", "answered": false}]},
            {"flag": "contradiction", "refuses": true, "when": [{"item": "none", "is": "true"},
                {"any": [{"item": "a", "above": 0}, {"item": "c", "above": 0}]}]}
        ]
    });
    check(
        more.clone(),
        &json!({"a": 2, "b": 1, "c": 14}),
        expect![[
            r#"{"status":"scored","scores":{"one":4,"two":1},"categories":{},"flags":["a-positive"]}"#
        ]],
    );
    check(
        more.clone(),
        &json!({"b": 1, "c": 15}),
        expect![[
            r#"{"status":"partial","scores":{"one":null,"two":2},"categories":{},"flags":["a-unanswered"]}"#
        ]],
    );
    check(
        more.clone(),
        &json!({"c": 3, "none": true}),
        expect![[r#"{"status":"error","scores":{},"categories":{},"flags":["contradiction"]}"#]],
    );
    check(
        more,
        &json!({"a": 0, "b": 0, "c": 0, "none": true}),
        expect![[r#"{"status":"scored","scores":{"one":3,"two":0},"categories":{},"flags":[]}"#]],
    );
}

#[test]
fn faults_of_a_table_are_named() {
    let score = |more: &Json| {
        let mut score = rules(&json!({})).list("scores")[0].clone();
        for (name, value) in more.as_object().unwrap().iter() {
            score.set(name, value);
        }
        json!({"scores": [(score)]})
    };
    let category = |rule: Json| {
        json!({"categories": [{"name": "band", "label": "b",
            "values": [{"value": "x", "label": "x"}], "rules": [(rule)]}]})
    };
    let item = |item: Json| json!({"items": [(item)], "scores": []});
    let all = [
        fault(json!({"version": ""})),
        fault(json!({"approval": {"status": "maybe"}})),
        fault(score(&json!({"max": 8}))),
        fault(score(&json!({"rule": "guess"}))),
        fault(score(&json!({"items": ["a", "z"]}))),
        fault(score(&json!({"items": ["a", "a"]}))),
        fault(score(&json!({"minAnswered": 4}))),
        fault(score(&json!({"times": 10_000_000}))),
        fault(json!({"minAnswered": 4})),
        fault(category(json!({"value": "y"}))),
        fault(category(json!({"value": "x", "when": [{"score": "total", "atLeast": 1}]}))),
        fault(category(json!({"value": "x", "when": [{"score": "sum"}]}))),
        fault(item(json!({"linkId": "a", "label": "a"}))),
        fault(item(json!({"linkId": "a", "label": "a", "options": "none"}))),
        fault(item(
            json!({"linkId": "a", "label": "a", "options": "level", "points": {"0..2": 0}}),
        )),
        fault(item(json!({"linkId": "a", "label": "a", "type": "integer", "min": 2, "max": 1}))),
    ];
    expect![[r#"
        The scoring table's version must be a text. [version]
        The approval's status must be approved or unapproved. [approval]
        The scoring table's scores[0].max is not what the rule gives: 0 to 9. [scores[0].max]
        The scoring table's scores[0].rule must be sum, mean or prorate. [scores[0].rule]
        The scoring table's scores[0] names the unknown item z. [scores[0]]
        The scoring table's scores[0].items names a twice. [scores[0].items]
        The scoring table's scores[0].minAnswered must be a whole number up to 3. [scores[0].minAnswered]
        The scoring table's scores[0].times must be a number up to a million. [scores[0].times]
        The scoring table's minAnswered must be a whole number up to 3. [minAnswered]
        The scoring table's categories[0].rules[0].value is not among the values. [categories[0].rules[0].value]
        The scoring table's categories[0].rules[0].when[0].score total is not a score. [categories[0].rules[0].when[0].score]
        The scoring table's categories[0].rules[0].when[0] compares with nothing. [categories[0].rules[0].when[0]]
        The scoring table's items[0] needs either options or the type boolean or integer. [items[0]]
        The scoring table's items[0] names the unknown options none. [items[0]]
        The scoring table's items[0] gives no points for the answer 3. [items[0]]
        The scoring table's items[0].min is above max. [items[0].min]"#]].assert_eq(&all.join("\n"));
}
