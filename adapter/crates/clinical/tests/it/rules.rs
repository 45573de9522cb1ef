//! What an instrument's file can say, on small ones of no real instrument.

use expect_test::{Expect, expect};
use lumbar_clinical::{Answers, Instrument, OptionSets, Scored, score};
use lumbar_fhir::{Json, json};

fn options() -> OptionSets {
    let answers: Vec<Json> =
        (0..4).map(|n| json!({"code": (n.to_string()), "value": (n), "label": "level"})).collect();
    let sets = json!({"level": {"system": "https://example.org/level", "answers": (answers)},
        "usual": {"system": "https://example.org/usual", "answers": [
            {"code": "1", "value": 1, "label": "one"}, {"code": "declined", "label": "declined"}]}});
    OptionSets::parse(&json!({"sets": (sets)})).unwrap()
}

/// An instrument with three items of 0 to 3 and what `more` adds or replaces.
fn rules(more: &Json) -> Json {
    let item =
        |id: &str| json!({"linkId": (id), "label": (id), "type": "choice", "optionSet": "level"});
    let mut table = json!({
        "id": "made-up", "version": "1.0.0", "title": "Made up", "status": "draft",
        "questionnaire": "https://example.org/Questionnaire/made-up",
        "purpose": "Tests.", "measures": "nothing", "respondent": "patient", "language": "en-GB",
        "licence": {"holder": "nobody", "terms": "none", "status": "own"},
        "activation": {"needs": []}, "ruleStatus": "service-policy",
        "approval": {"status": "unapproved"},
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
    let table = Instrument::parse(&rules(&more), &options()).unwrap();
    let mut scored = match Answers::from_map(&table, answers) {
        Ok(answers) => score::score(&table, &answers).to_json(),
        Err(refused) => Scored::refused(&refused).to_json(),
    };
    scored.as_object_mut().unwrap().remove("reasons");
    expected.assert_eq(&scored.to_string());
}

fn fault(more: Json) -> String {
    let issue = Instrument::parse(&rules(&more), &options()).unwrap_err();
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
            {"linkId": "a", "label": "a", "type": "choice", "optionSet": "level"},
            {"linkId": "b", "label": "b", "type": "choice", "optionSet": "level", "reverse": 3},
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
fn faults_of_a_file_are_named() {
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
        fault(item(json!({"linkId": "a", "label": "a", "type": "choice", "optionSet": "none"}))),
        fault(item(
            json!({"linkId": "a", "label": "a", "type": "choice", "optionSet": "level", "points": {"0..2": 0}}),
        )),
        fault(item(json!({"linkId": "a", "label": "a", "type": "integer", "min": 2, "max": 1}))),
    ];
    expect![[r#"
        The instrument's version must be a text. [version]
        The approval's status must be approved or unapproved. [approval]
        The instrument's scores[0].max is not what the rule gives: 0 to 9. [scores[0].max]
        The instrument's scores[0].rule must be sum, mean, prorate, percent, count, profile or valueSet. [scores[0].rule]
        The instrument's scores[0].items names the unknown item z. [scores[0].items]
        The instrument's scores[0].items names a twice. [scores[0].items]
        The instrument's scores[0].minAnswered must be a whole number up to 3. [scores[0].minAnswered]
        The instrument's scores[0].times must be a number up to a million. [scores[0].times]
        The instrument's minAnswered must be a whole number up to 3. [minAnswered]
        The instrument's categories[0].rules[0].value is not among the values. [categories[0].rules[0].value]
        The instrument's categories[0].rules[0].when[0].score total is not a score. [categories[0].rules[0].when[0].score]
        The instrument's categories[0].rules[0].when[0] compares with nothing. [categories[0].rules[0].when[0]]
        The instrument's items[0].type must be a text. [items[0].type]
        The instrument's items[0] names the unknown options none. [items[0]]
        The instrument's items[0] gives no points for the answer 3. [items[0]]
        The instrument's items[0].min is above max. [items[0].min]"#]].assert_eq(&all.join("\n"));
}

/// Items `a` and `b` of 0 to 3, several marks on `a`, a control `none`, and a choice with a name.
fn more(scores: Json, more: Json) -> Json {
    let items = json!([
        {"linkId": "a", "label": "a", "type": "choice", "optionSet": "level", "marks": "highest"},
        {"linkId": "b", "label": "b", "type": "choice", "optionSet": "level"},
        {"linkId": "none", "label": "none of these", "type": "boolean"},
        {"linkId": "how", "label": "how", "type": "choice", "optionSet": "usual"}
    ]);
    let mut all = json!({"items": (items), "scores": (scores)});
    for (name, value) in more.as_object().unwrap().iter() {
        all.set(name, value);
    }
    all
}

#[test]
fn percent_count_and_profile() {
    let scores = json!([
        {"name": "percent", "label": "p", "rule": "percent", "items": ["a..b"], "minAnswered": 1,
            "decimals": 1, "min": 0, "max": 100},
        {"name": "count", "label": "c", "rule": "count", "items": ["a..b"], "min": 0, "max": 2},
        {"name": "profile", "label": "p", "rule": "profile", "items": ["a..b"], "aside": true}
    ]);
    let flags = json!({"flags": [
        {"flag": "marks", "when": [{"anyItem": ["a..b"], "severalMarks": true}]},
        {"flag": "scaled", "when": [{"score": "percent", "scaledUp": true}]}]});
    let more = more(scores, flags);
    check(
        more.clone(),
        &json!({"a": [1, 2, 2], "b": 0}),
        expect![[
            r#"{"status":"scored","scores":{"percent":33.3,"count":1,"profile":"20"},"categories":{},"flags":["marks"]}"#
        ]],
    );
    check(
        more.clone(),
        &json!({"a": [2]}),
        expect![[
            r#"{"status":"prorated","scores":{"percent":66.7,"count":1,"profile":"29"},"categories":{},"flags":["scaled"]}"#
        ]],
    );
    check(
        more.clone(),
        &json!({}),
        expect![[
            r#"{"status":"partial","scores":{"percent":null,"count":0,"profile":null},"categories":{},"flags":[]}"#
        ]],
    );
    check(
        more,
        &json!({"a": [2, 4]}),
        expect![[r#"{"status":"error","scores":{},"categories":{},"flags":["invalid-answer:a"]}"#]],
    );
}

#[test]
fn scores_that_do_not_apply_and_points_for_scores() {
    let scores = json!([
        {"name": "first", "label": "f", "rule": "mean", "times": 10, "items": ["a..b"],
            "decimals": 1, "min": 0, "max": 30},
        {"name": "second", "label": "s", "rule": "sum", "items": ["b"], "min": 0, "max": 5,
            "when": [{"not": [{"item": "none", "is": "true"}]}],
            "adds": [{"score": "first", "points": [{"below": 5, "points": 0},
                {"below": 15, "points": 1}, {"points": 2}]}]}
    ]);
    let statuses =
        json!({"flags": [{"flag": "no-second", "when": [{"score": "second", "given": false}]}]});
    let more = more(scores, statuses);
    check(
        more.clone(),
        &json!({"a": 0, "b": 1}),
        expect![[
            r#"{"status":"scored","scores":{"first":5,"second":2},"categories":{},"flags":[]}"#
        ]],
    );
    check(
        more.clone(),
        &json!({"a": 2, "b": 1, "none": true}),
        expect![[
            r#"{"status":"scored","scores":{"first":15,"second":null},"categories":{},"flags":["no-second"]}"#
        ]],
    );
    check(
        more,
        &json!({"b": 1}),
        expect![[
            r#"{"status":"not-scored","scores":{"first":null,"second":null},"categories":{},"flags":["no-second"]}"#
        ]],
    );
}

#[test]
fn statuses_names_and_differences() {
    let scores = json!([{"name": "how", "label": "h", "rule": "sum", "items": ["how"],
        "min": 1, "max": 1}]);
    let rules = json!({
        "categories": [{"name": "who", "label": "w",
            "values": [{"value": "said", "label": "said"}, {"value": "not", "label": "not"}],
            "rules": [{"value": "not", "when": [{"item": "how", "is": ["declined"]}]},
                {"value": "said", "when": [{"item": "how", "answered": true}]}]}],
        "statuses": [{"status": "scored", "when": [{"category": "who", "is": "said"}]},
            {"status": "partial", "when": [{"category": "who", "given": true}]},
            {"status": "not-scored"}],
        "flags": [{"flag": "a-above-b", "when": [{"item": "a", "minus": "b", "above": 0}]},
            {"flag": "nothing", "when": [{"everyItem": ["a..how"], "answered": false}]}]
    });
    let more = more(scores, rules);
    check(
        more.clone(),
        &json!({"how": "declined", "a": 2, "b": 1}),
        expect![[
            r#"{"status":"partial","scores":{"how":null},"categories":{"who":"not"},"flags":["a-above-b"]}"#
        ]],
    );
    check(
        more.clone(),
        &json!({"how": 1, "a": 1, "b": 1}),
        expect![[
            r#"{"status":"scored","scores":{"how":1},"categories":{"who":"said"},"flags":[]}"#
        ]],
    );
    check(
        more,
        &json!({"a": null, "b": "", "how": []}),
        expect![[
            r#"{"status":"not-scored","scores":{"how":null},"categories":{"who":null},"flags":["nothing"]}"#
        ]],
    );
}

#[test]
fn groups_hold_items_and_take_no_answer() {
    let more = br#"{"items": [{"linkId": "g", "label": "group", "type": "group", "items": [
            {"linkId": "a", "label": "a", "type": "choice", "optionSet": "level"},
            {"linkId": "b", "label": "b", "type": "decimal", "min": 0, "max": 2.5}]}],
        "scores": [{"name": "sum", "label": "s", "rule": "sum", "items": ["g..b"],
            "decimals": 1, "min": 0, "max": 5.5}]}"#;
    let more = Json::parse(more).unwrap();
    check(
        more.clone(),
        &Json::parse(br#"{"a": 3, "b": 2.5}"#).unwrap(),
        expect![[r#"{"status":"scored","scores":{"sum":5.5},"categories":{},"flags":[]}"#]],
    );
    check(
        more,
        &json!({"g": 1}),
        expect![[r#"{"status":"error","scores":{},"categories":{},"flags":["invalid-answer:g"]}"#]],
    );
}

#[test]
fn a_refused_instrument_reads_and_scores_nothing() {
    let more = json!({"items": [], "scores": [],
        "activation": {"refused": "Nobody knows its items.", "flag": "unknown-items"}});
    check(
        more,
        &json!({"x": 1}),
        expect![[
            r#"{"status":"not-activatable","scores":{},"categories":{},"flags":["unknown-items"]}"#
        ]],
    );
}

#[test]
fn faults_of_rules_are_named() {
    let with = |name: &str, value: Json| {
        let mut more = json!({});
        more.set(name, value);
        fault(more)
    };
    let flag = |condition: Json| with("flags", json!([{"flag": "f", "when": [(condition)]}]));
    let item = |item: Json| with("items", json!([(item)]));
    let triage = |reason: Json| {
        with(
            "triage",
            json!({"levels": ["low"], "main": ["a"], "incomplete": "gap", "rules": [(reason)]}),
        )
    };
    let all = [
        flag(json!({"item": "a", "is": "4"})),
        flag(json!({"item": "a", "minus": "z", "above": 0})),
        flag(json!({"anyItem": ["c..a"], "answered": true})),
        flag(json!({"category": "none", "given": true})),
        flag(json!({"status": "unheard-of"})),
        with("flags", json!([{"flag": "f", "when": []}])),
        with("statuses", json!([{"status": "scored", "when": [{"item": "a", "answered": true}]}])),
        with("activation", json!({"needs": ["a signature"]})),
        with("change", json!([{"series": "s", "score": "sum", "threshold": 1}])),
        triage(json!({"level": "high", "reason": "r", "when": [{"item": "a", "is": "1"}]})),
        item(
            json!({"linkId": "a", "label": "a", "type": "integer", "min": 0, "max": 1, "marks": "highest"}),
        ),
        item(
            json!({"linkId": "a", "label": "a", "type": "boolean", "enableWhen": [{"item": "a"}]}),
        ),
        with("derived", json!([{"inputs": [{"name": "x"}], "results": []}])),
    ];
    expect![[r#"
        The instrument's flags[0].when[0].is names 4, which is no answer. [flags[0].when[0].is]
        The instrument's flags[0].when[0] names the unknown item z. [flags[0].when[0]]
        The instrument's flags[0].when[0].anyItem has a row that runs backwards, c..a. [flags[0].when[0].anyItem]
        The instrument's flags[0].when[0].category none is not a category. [flags[0].when[0].category]
        The instrument's flags[0].when[0].status is no status that is known here. [flags[0].when[0].status]
        The instrument's flags[0].when must hold at least one condition. [flags[0].when]
        The instrument's statuses must end with one that always applies. [statuses]
        The instrument's activation.needs names a signature, which nobody has. [activation.needs]
        The instrument's change[0].score sum has no direction. [change[0].score]
        The instrument's triage.rules[0].level high is not a level. [triage.rules[0].level]
        The instrument's items[0].marks is for a choice. [items[0].marks]
        The instrument's items[0].enableWhen[0] needs is or answered. [items[0].enableWhen[0]]
        The instrument's derived[0].inputs[0] needs a type or values. [derived[0].inputs[0]]"#]].assert_eq(&all.join("\n"));
}
