//! The clinical safety file: every hazard has controls, and every control its proof.

use std::collections::{BTreeMap, BTreeSet};

use lumbar_testkit::root;

/// Pitfalls of the instruments, numbered as in the hazard log's `pitfalls`.
const PITFALLS: std::ops::RangeInclusive<u32> = 1..=12;

type Row = BTreeMap<String, String>;

/// The rows of one table of the safety file, by the names in its first line.
fn table(name: &str) -> Vec<Row> {
    let path = root().join("adapter/clinical-safety").join(name);
    let mut reader = csv::Reader::from_path(&path).unwrap();
    let rows = reader.deserialize::<Row>();
    rows.map(|row| row.unwrap_or_else(|error| panic!("{name}: {error}"))).collect()
}

/// Whether `proof`, `path::function`, is a test in the tree, or `path` a case that a test reads.
fn is_there(proof: &str) -> bool {
    let (path, function) = match proof.split_once("::") {
        Some((path, function)) => (path, Some(function)),
        None => (proof, None),
    };
    let path = root().join(path);
    let Some(function) = function else {
        return path.starts_with(root().join("fixtures")) && path.exists();
    };
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let head = format!("fn {function}(");
    lines.iter().enumerate().any(|(index, line)| {
        line.contains(&head)
            && lines[..index]
                .iter()
                .rev()
                .take(8)
                .take_while(|line| !line.contains("fn "))
                .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    }) || text.contains("proptest!") && lines.iter().any(|line| line.starts_with(&head))
}

#[test]
fn every_hazard_has_controls_and_every_control_its_proof() {
    let hazards = table("hazards.csv");
    let controls = table("controls.csv");
    let mut faults = Vec::new();
    let known: BTreeSet<&str> = hazards.iter().map(|row| row["id"].as_str()).collect();
    if known.len() != hazards.len() {
        faults.push("two hazards have the same id".to_owned());
    }
    for id in &known {
        let proved = controls.iter().any(|row| row["hazard"] == **id && row["kind"] != "site");
        if !proved {
            faults.push(format!("{id} has no control that is proved"));
        }
    }
    for row in &controls {
        let (hazard, control, proof) = (&row["hazard"], &row["control"], &row["proof"]);
        if !known.contains(hazard.as_str()) {
            faults.push(format!("{control:?} is a control of {hazard}, which is no hazard"));
        }
        match row["kind"].as_str() {
            "site" if proof.is_empty() => {}
            "design" | "information" => {
                let proofs: Vec<&str> = proof.split_whitespace().collect();
                if proofs.is_empty() {
                    faults.push(format!("{hazard}: {control:?} names no proof"));
                }
                for proof in proofs.iter().filter(|proof| !is_there(proof)) {
                    faults.push(format!("{hazard}: {control:?}: there is no test {proof}"));
                }
            }
            _ => faults.push(format!("{hazard}: {control:?} has a kind or proof that is none")),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_pitfall_of_the_instruments_is_a_hazard() {
    let mut covered = BTreeSet::new();
    for row in table("hazards.csv") {
        covered.extend(row["pitfalls"].split_whitespace().map(|n| n.parse::<u32>().unwrap()));
    }
    assert_eq!(covered, PITFALLS.collect());
}

#[test]
fn a_hazard_is_not_accepted_above_class_three() {
    let matrix = table("matrix.csv");
    let class = |severity: &str, likelihood: &str| -> u32 {
        let row = matrix.iter().find(|row| row["severity"] == severity);
        let row = row.unwrap_or_else(|| panic!("{severity} is no severity"));
        let class = row.get(likelihood).unwrap_or_else(|| panic!("{likelihood} is no likelihood"));
        class.parse().unwrap()
    };
    for row in table("hazards.csv") {
        let before = class(&row["severity"], &row["likelihood before"]);
        let after = class(&row["severity"], &row["likelihood after"]);
        assert!(after <= 3, "{} stays at class {after}", row["id"]);
        assert!(after < before, "{}: its controls change nothing", row["id"]);
    }
}
