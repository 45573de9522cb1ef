//! What one page of a search costs as the store grows: N Observations of N/50 patients, the page
//! `Observation?patient=…&code=…&_sort=-date&_count=50` and others, at two sizes.
//!
//! `cargo bench -p lumbar-store --bench search`; `LUMBAR_BENCH_SIZES=10000,1000000` for other sizes,
//! and with `LUMBAR_BENCH_POSTGRES=URL` on PostgreSQL, too (an empty database; it is filled up from
//! the smaller to the larger size).
#![expect(clippy::unwrap_used, reason = "a bench that cannot run must fail")]

use std::time::{Duration, Instant};

use lumbar_fhir::search::{Bound, Condition, Direction, IndexRow, IndexValue, Query, Sort};
use lumbar_store::{Bounds, Change, Commit, Method, Options, Store, Total};

/// Observations of one patient.
const OF_PATIENT: u64 = 50;
/// Resources of one commit.
const TOGETHER: u64 = 1000;
/// How often each search is measured.
const TIMES: u64 = 300;

/// Numbers in an order that looks random: those of one patient lie apart.
fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

fn observation(number: u64, patients: u64) -> Change {
    let key = |code: &str, key: String| IndexRow { code: code.into(), value: IndexValue::Key(key) };
    let patient = format!("Patient/{}", number % patients);
    let at = i64::try_from(mixed(number) % 100_000_000).unwrap() * 1_000_000;
    let index = vec![
        key("code", format!("7161{}\u{1}http://snomed.info/sct", mixed(number / patients) % 3)),
        key("category", "survey\u{1}http://terminology.hl7.org/CodeSystem/category".into()),
        key("status", "final\u{1}http://hl7.org/fhir/observation-status".into()),
        key("subject", patient.clone()),
        key("patient", patient),
        key("identifier", format!("{number}\u{1}https://example.org/observation")),
        IndexRow { code: "date".into(), value: IndexValue::Date(at, at + 999_999) },
        IndexRow { code: "value-quantity".into(), value: IndexValue::Number(3.5, 4.5, "".into()) },
    ];
    Change {
        resource_type: "Observation".into(),
        id: format!("{:016x}", mixed(number)),
        expected: None,
        version: 1,
        last_updated: at,
        method: Method::Create,
        body: Some(
            format!(r#"{{"resourceType":"Observation","note":"{}"}}"#, "x".repeat(950)).into(),
        ),
        index,
    }
}

/// Adds what is missing up to a size. The patients of the first ones stay as they are: each size
/// has patients of its own.
async fn fill(store: &Store, from: u64, to: u64) {
    let patients = ((to - from) / OF_PATIENT).max(1);
    for first in (from..to).step_by(usize::try_from(TOGETHER).unwrap()) {
        let changes = (first..to.min(first + TOGETHER)).map(|number| {
            let mut change = observation(number, patients);
            for row in
                change.index.iter_mut().filter(|row| matches!(&*row.code, "subject" | "patient"))
            {
                row.value = IndexValue::Key(format!("Patient/{to}-{}", (number - from) % patients));
            }
            change
        });
        let commit = Commit { changes: changes.collect(), ..Commit::default() };
        store.resources.commit(commit).await.unwrap();
    }
}

fn query(conditions: Vec<Condition>, sort: Vec<Sort>) -> Query {
    Query {
        resource_type: "Observation".into(),
        condition: Condition::All(conditions),
        sort,
        count: 50,
        cursor: None,
        total: false,
    }
}

/// The searches, by what they are called; `number` picks a patient of the newest size.
fn searches(number: u64, size: u64, from: u64) -> [(&'static str, Query); 5] {
    let patients = ((size - from) / OF_PATIENT).max(1);
    let key = |code: &str, key: String| {
        Condition::Key(code.into(), Bound::Included(key.clone()), Bound::Included(key))
    };
    let patient = key("patient", format!("Patient/{size}-{}", mixed(number) % patients));
    let code = Condition::Any(vec![
        key("code", "71610\u{1}http://snomed.info/sct".into()),
        key("code", "71611\u{1}http://snomed.info/sct".into()),
        key("code", "71612\u{1}http://snomed.info/sct".into()),
    ]);
    let newest = vec![Sort::Date("date".into(), Direction::Descending)];
    [
        ("patient, code, -date", query(vec![patient, code.clone()], newest.clone())),
        ("code, -date", query(vec![code], newest.clone())),
        ("all, -date", query(Vec::new(), newest)),
        (
            "all, identifier",
            query(Vec::new(), vec![Sort::Key("identifier".into(), Direction::Ascending)]),
        ),
        ("all", query(Vec::new(), Vec::new())),
    ]
}

const BOUNDS: Bounds = Bounds { looked: 20_000, bytes: 64 << 20 };

/// The median time of each search, and of its page at a depth of a hundred pages.
async fn measure(store: &Store, size: u64, from: u64) -> Vec<(&'static str, Duration, Duration)> {
    let mut all = Vec::new();
    for kind in 0..searches(0, size, from).len() {
        let (mut near, mut far) = (Vec::new(), Vec::new());
        let mut cursor = None;
        for number in 0..TIMES {
            let (_, query) = searches(number, size, from)[kind].clone();
            let begin = Instant::now();
            let page = store
                .resources
                .page(std::slice::from_ref(&query), Total::None, BOUNDS)
                .await
                .unwrap();
            near.push(begin.elapsed());
            assert!(!page.matches.is_empty());
            let deep = Query { cursor: cursor.clone().or(page.next), ..query };
            if deep.cursor.is_none() {
                continue;
            }
            let begin = Instant::now();
            let page = store.resources.page(&[deep], Total::None, BOUNDS).await.unwrap();
            far.push(begin.elapsed());
            cursor = page.next;
        }
        near.sort_unstable();
        // Of the last third, which lies deepest.
        let mut far = far.split_off(2 * far.len() / 3);
        far.sort_unstable();
        let median = |times: &[Duration]| times.get(times.len() / 2).copied().unwrap_or_default();
        all.push((searches(0, size, from)[kind].0, median(&near), median(&far)));
    }
    all
}

async fn run(name: &str, url: &str, sizes: &[u64]) {
    let store = Store::open(url, Options::default()).await.unwrap();
    let mut before: Option<Vec<(&str, Duration, Duration)>> = None;
    let mut from = 0;
    for &size in sizes {
        fill(&store, from, size).await;
        let now = measure(&store, size, from).await;
        for (number, (search, near, far)) in now.iter().enumerate() {
            let ratio = before
                .as_ref()
                .map_or(1.0, |before| near.as_secs_f64() / before[number].1.as_secs_f64());
            println!(
                "{name:10} {size:9} {search:22} {:9.0} µs  deep {:9.0} µs  ratio {ratio:5.2}",
                near.as_secs_f64() * 1e6,
                far.as_secs_f64() * 1e6
            );
        }
        before.get_or_insert(now);
        from = size;
    }
    store.close().await;
}

fn main() {
    // Also run by `cargo test --benches`, where it only has to work.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let sizes = std::env::var("LUMBAR_BENCH_SIZES").ok();
    let sizes: Vec<u64> = match sizes {
        Some(sizes) => sizes.split(',').map(|size| size.parse().unwrap()).collect(),
        None if measures => vec![10_000, 100_000],
        None => vec![500, 2000],
    };
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("median of a page of 50, and of one that lies deep; ratio to the smallest store");
    let file = format!("sqlite:{}", folder.path().join("search.db").display());
    runtime.block_on(run("SQLite", &file, &sizes));
    if let Ok(url) = std::env::var("LUMBAR_BENCH_POSTGRES") {
        runtime.block_on(run("PostgreSQL", &url, &sizes));
    }
}
