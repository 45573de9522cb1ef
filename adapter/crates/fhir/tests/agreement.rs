//! Agreement with HL7's Java validator on its own cases: the verdicts, and what else is found.
//!
//! What we say otherwise stands with its reason in `fixtures/validator/exceptions.tsv`, where the
//! suite `validator-cases` has the verdicts that follow from R4 and the files of a case, and
//! `validator-cases-policy` those that rest on a rule of the reference alone. What only one of the
//! two finds in a resource that both refuse is counted in `fixtures/validator/agreement.tsv`.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod cases;
mod loaded;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{env, fs};

use cases::{exceptions, print, read, sorted};
use loaded::Loaded;
use lumbar_fhir::{Issue, IssueType, Json};
use lumbar_testkit::{fixtures, shared};

/// One verdict of the reference: on a case as it stands, or with the profile that it is about.
struct Check<'c> {
    case: &'c Json,
    name: &'static str,
}

impl Check<'_> {
    fn text(&self, path: &[&str]) -> Option<&str> {
        self.case.str_at(path)
    }

    /// As the tables of exceptions have it.
    fn id(&self) -> String {
        let id = self.text(&["id"]).unwrap();
        if self.name == "base" { id.to_owned() } else { format!("{id}#{}", self.name) }
    }

    fn is_valid(&self) -> bool {
        self.case.at(&["expect", self.name, "valid"]).and_then(Json::as_bool).unwrap()
    }

    fn suite(&self) -> &'static str {
        match self.text(&["expect", self.name, "grade"]) {
            Some("A") => "validator-cases",
            _ => "validator-cases-policy",
        }
    }

    /// The file as it was published and, if that is XML, as JSON; the latter is not there where the
    /// fault is one of the form.
    fn inputs(&self) -> BTreeSet<&str> {
        ["file", "json"].iter().filter_map(|form| self.text(&["input", form])).collect()
    }

    /// What we find in one of the inputs; that it cannot be read is an error, too.
    fn issues(&self, folder: &Path, input: &str) -> Vec<Issue> {
        let mut loaded = Loaded::r4();
        // What references point to, where the file is not among those of the case: resources of
        // our own that keep or break the profile as the recorded outcome says.
        for target in sorted(&fixtures().join("validator/agreement")) {
            loaded.add(&read(&target).unwrap());
        }
        let mut load = |files: &[Json]| {
            for file in files {
                let name = file.str_at(&["json"]).or_else(|| file.str_at(&["file"]));
                if let Some(Ok(json)) = name.map(|name| read(&folder.join(name))) {
                    loaded.add(&json);
                }
            }
        };
        load(self.case.list("supporting"));
        let profile = self.case.get("profile");
        if let Some(profile) = profile {
            load(profile.list("supporting"));
            load(profile.list("definition"));
        }
        let given = profile.filter(|_| self.name == "profile").and_then(|p| p.str_at(&["url"]));
        let given: Vec<&str> = given.into_iter().collect();
        let path = folder.join(input);
        let parts = match input.ends_with(".ndjson") {
            true => {
                let text = fs::read_to_string(&path).unwrap();
                let lines = text.lines().filter(|line| !line.trim().is_empty());
                lines.map(|line| Json::parse(line.as_bytes()).map_err(|e| e.to_string())).collect()
            }
            false => vec![read(&path)],
        };
        let unread = |text| vec![Issue::error(IssueType::Structure, format!("{UNREAD}{text}"))];
        let issues = parts.into_iter().map(|part| match part {
            Ok(json) => loaded.issues(&json, &given),
            Err(text) => unread(text),
        });
        issues.flatten().collect()
    }

    /// Whether the issues of the reference are recorded, and not their number only.
    fn has_issues(&self) -> bool {
        let expected = self.case.at(&["expect", self.name]);
        expected.and_then(|of| of.get("issues")).is_some_and(|of| of.as_array().is_some())
    }

    /// The errors of the reference that follow from R4 and the files, where both refuse: how many
    /// of them we do not have at the same or a neighbouring element, and how many of ours it has
    /// not. What cannot be read is one error of ours.
    fn unmatched(&self, issues: &[Issue]) -> (usize, usize) {
        let place = |text: Option<&str>| normal(text.unwrap_or_default());
        let mut ours: Vec<String> = issues
            .iter()
            .filter(|i| i.is_error())
            .map(|i| place(i.expression.as_deref()))
            .collect();
        let theirs = self.case.at(&["expect", self.name]).map_or(&[][..], |of| of.list("issues"));
        let theirs = theirs
            .iter()
            .filter(|issue| matches!(issue.str_at(&["severity"]), Some("error" | "fatal")));
        let mut missed = 0;
        for issue in theirs {
            let at = place(issue.str_at(&["expression"]));
            let same = ours.iter().position(|other| *other == at);
            match same.or_else(|| ours.iter().position(|other| is_near(other, &at))) {
                Some(found) => _ = ours.swap_remove(found),
                None => missed += usize::from(issue.str_at(&["class"]) == Some("core")),
            }
        }
        (missed, ours.len())
    }
}

const UNREAD: &str = "cannot be read: ";

fn is_unread(issue: &Issue) -> bool {
    issue.text.starts_with(UNREAD)
}

/// An expression without indexes, types and the comments of the reference.
fn normal(expression: &str) -> String {
    let mut out = String::new();
    let mut rest = expression.replace("/f:", ".");
    let next =
        |text: &str| [text.find(['[', '/']), text.find(".ofType(")].into_iter().flatten().min();
    while let Some(at) = next(&rest) {
        out.push_str(&rest[..at]);
        let end = match &rest[at..] {
            part if part.starts_with('[') => part.find(']').map(|end| end + 1),
            part if part.starts_with("/*") => part.find("*/").map(|end| end + 2),
            part if part.starts_with('.') => part.find(')').map(|end| end + 1),
            _ => Some(1),
        };
        rest = rest[at + end.unwrap_or(rest.len() - at)..].to_owned();
    }
    out.push_str(&rest);
    out.trim_matches('.').to_owned()
}

/// Whether one is the parent of the other.
fn is_near(one: &str, other: &str) -> bool {
    let is_parent = |one: &str, other: &str| {
        other.strip_prefix(one).is_some_and(|rest| rest.rfind('.') == Some(0))
    };
    is_parent(one, other) || is_parent(other, one)
}

/// The verdicts of one suite.
#[derive(Default)]
struct Verdicts {
    checks: usize,
    /// How many the reference refuses.
    refused: usize,
    false_accepts: BTreeSet<String>,
    false_rejects: BTreeSet<String>,
}

impl Verdicts {
    fn different(&self) -> BTreeSet<String> {
        &self.false_accepts | &self.false_rejects
    }

    /// As the head of `exceptions.tsv` has it.
    fn figures(&self, suite: &str) -> String {
        let share = |part: usize, of: usize| 100.0 * part as f64 / of as f64;
        let (differ, accepts) = (self.different().len(), self.false_accepts.len());
        format!(
            "# {suite}: {} checks, of which the reference refuses {}; {differ} differ (agreement \
             {:.1} %); false accepts {accepts}: {:.1} % of all, {:.1} % of the refused; false \
             rejects {}",
            self.checks,
            self.refused,
            100.0 - share(differ, self.checks),
            share(accepts, self.checks),
            share(accepts, self.refused),
            self.false_rejects.len(),
        )
    }
}

#[test]
fn verdicts_are_those_of_the_reference() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("conformance/validator-cases");
    let cases = read(&folder.join("cases.json")).unwrap();
    let only = env::var("CASE").ok();
    let mut suites: BTreeMap<&str, Verdicts> = BTreeMap::new();
    let mut unmatched: BTreeMap<(String, &str), usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in cases.list("cases") {
        for name in ["base", "profile"] {
            let check = Check { case, name };
            let is_meant = only.as_deref().is_none_or(|only| check.text(&["id"]) == Some(only));
            if case.at(&["expect", name]).and_then(|of| of.get("valid")).is_none() || !is_meant {
                continue;
            }
            let id = check.id();
            let mut verdicts = BTreeSet::new();
            let mut issues = Vec::new();
            for input in check.inputs() {
                issues = check.issues(&folder, input);
                verdicts.insert(!issues.iter().any(Issue::is_error));
                if only.is_some() {
                    println!("{id} {input}\n{}", print(&issues));
                }
            }
            let is_valid = verdicts.contains(&true);
            if verdicts.len() != 1 {
                wrong.push(format!("{id}: not the same verdict on XML and JSON"));
            }
            let suite = suites.entry(check.suite()).or_default();
            suite.checks += 1;
            suite.refused += usize::from(!check.is_valid());
            match (is_valid, check.is_valid()) {
                (true, false) => _ = suite.false_accepts.insert(id),
                (false, true) => _ = suite.false_rejects.insert(id),
                (false, false) if check.has_issues() && !issues.iter().any(is_unread) => {
                    let (reference, ours) = check.unmatched(&issues);
                    for (side, count) in [("reference", reference), ("ours", ours)] {
                        if count > 0 {
                            unmatched.insert((id.clone(), side), count);
                        }
                    }
                }
                _ => {}
            }
        }
    }
    if only.is_some() {
        return;
    }
    let table = fs::read_to_string(fixtures().join("validator/exceptions.tsv")).unwrap();
    for (name, suite) in &suites {
        let figures = suite.figures(name);
        println!("{figures}");
        if !table.lines().any(|line| line == figures) {
            wrong.push(format!("the head of exceptions.tsv should say\n{figures}"));
        }
        let (listed, found): (BTreeSet<String>, _) =
            (exceptions(name).into_keys().collect(), suite.different());
        let new = found.difference(&listed).map(|id| format!("{id}: not in exceptions.tsv"));
        let mended =
            listed.difference(&found).map(|id| format!("{id}: take out of exceptions.tsv"));
        wrong.extend(new.chain(mended));
    }
    // What the standard itself decides: 95 % agreement, at most 2 % accepted in error.
    let suite = &suites["validator-cases"];
    assert!(suite.checks > 200 && suite.refused > 90);
    assert!(suite.different().len() * 100 <= suite.checks * 5);
    assert!(suite.false_accepts.len() * 100 <= suite.refused * 2);
    wrong.extend(differences(&unmatched));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where `agreement.tsv` says otherwise than `found`.
fn differences(found: &BTreeMap<(String, &str), usize>) -> Vec<String> {
    let table = fs::read_to_string(fixtures().join("validator/agreement.tsv")).unwrap_or_default();
    let mut listed: BTreeMap<(String, String), usize> = BTreeMap::new();
    for row in table.lines().skip(1) {
        let fields: Vec<&str> = row.split('\t').collect();
        let [check, side, count, reason] = fields[..] else {
            return vec![format!("{row}: no row")];
        };
        assert!(!reason.is_empty(), "{row}: why?");
        listed.insert((check.to_owned(), side.to_owned()), count.parse().unwrap());
    }
    let found: BTreeMap<(String, String), usize> = found
        .iter()
        .map(|((check, side), count)| ((check.clone(), (*side).to_owned()), *count))
        .collect();
    let rows: BTreeSet<&(String, String)> = listed.keys().chain(found.keys()).collect();
    let differ = rows.into_iter().filter(|row| listed.get(*row) != found.get(*row));
    differ
        .map(|row| {
            let (listed, found) = (listed.get(row), found.get(row));
            format!("agreement.tsv: {}\t{}: listed {listed:?}, found {found:?}", row.0, row.1)
        })
        .collect()
}
