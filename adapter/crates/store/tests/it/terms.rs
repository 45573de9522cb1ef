//! What resources are found by, as SQLite keeps it: in the rows and in the tables of values.

use lumbar_fhir::search::{Bound, Condition, IndexRow, IndexValue, Query};
use lumbar_store::{Change, Commit, Indexed, Step, Store};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection, SqlSafeStr, SqliteConnection};

use crate::random::Random;
use crate::search::model::{Known, Model, TYPES, key, random_index, random_query};
use crate::{change, commit, deletion, fresh, open};

/// Texts that a form of JSON might mistake for something else.
const ODD: [&str; 9] = [
    "",
    "\"",
    "\\u0001\u{1}\n",
    "nul\0",
    "[1,2]",
    "{\"k1\":[]}",
    "true",
    "12.50",
    "\u{1F600}'é\u{10FFFF}",
];

/// Numbers that few texts give back.
const NUMBERS: [f64; 11] = [
    f64::NEG_INFINITY,
    -1.3430505694987311e-211,
    -0.0,
    0.0,
    5e-324,
    2.2250738585072014e-308,
    0.1,
    0.1 + 0.2,
    8.326249024528115e193,
    f64::MAX,
    f64::INFINITY,
];

async fn connect(url: &str) -> SqliteConnection {
    SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap()
}

/// How many values the tables have, all of them, and of these how many the rows do not say; then
/// how many the rows say that the tables do not have.
async fn compare(url: &str) -> [i64; 3] {
    let said = "FROM resource r CROSS JOIN jsonb_each(r.terms) t CROSS JOIN jsonb_each(t.value) v";
    let parameter = "CAST(substr(t.key, 2) AS INTEGER), r.row_id";
    let shapes = [
        ("key_value", "k", "value", "v.value"),
        ("date_value", "d", "low, high", "v.value ->> 0, v.value ->> 1"),
        ("number_value", "n", "low, high, unit", "v.value ->> 0, v.value ->> 1, v.value ->> 2"),
    ];
    let mut connection = connect(url).await;
    let mut counts = [0; 3];
    for (table, letter, columns, parts) in shapes {
        let there = format!("SELECT parameter_id, row_id, {columns} FROM {table}");
        let said =
            format!("SELECT {parameter}, {parts} {said} WHERE substr(t.key, 1, 1) = '{letter}'");
        let statements =
            [there.clone(), format!("{there} EXCEPT {said}"), format!("{said} EXCEPT {there}")];
        for (count, sql) in counts.iter_mut().zip(statements) {
            let sql = AssertSqlSafe(format!("SELECT count(*) FROM ({sql})"));
            *count += sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut connection).await.unwrap();
        }
    }
    connection.close().await.unwrap();
    counts
}

fn odd_index(random: &mut Random, resource_type: &str) -> Vec<IndexRow> {
    let mut index = random_index(random, resource_type);
    for _ in 0..random.below(4) {
        index.push(key(random.pick(&["odd", "code"]), random.pick(&ODD)));
    }
    if random.chance(8) {
        index.push(key("odd", &"ä".repeat(random.below(2000))));
        index.extend((0..random.below(300)).map(|number| key("many", &format!("{number:0200}"))));
    }
    for _ in 0..random.below(3) {
        let (one, two) = (random.pick(&NUMBERS), random.pick(&NUMBERS));
        let value = IndexValue::Number(one.min(two), one.max(two), "".into());
        index.push(IndexRow { code: "odd number".into(), value });
    }
    index
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_is_left_behind() {
    let database = &fresh()[0];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let store = open(&database.url).await;
    let mut versions = [0_i64; 24];
    let mut most = 0;
    for round in 0..40 {
        let mut changes: Vec<Change> = Vec::new();
        for _ in 0..1 + random.below(12) {
            let number = random.below(versions.len());
            let (kind, id) = (TYPES[number % 2], number.to_string());
            versions[number] += 1;
            let version = versions[number];
            let next = if version > 1 && random.chance(4) {
                deletion(kind, &id, version)
            } else {
                Change { index: odd_index(&mut random, kind), ..change(kind, &id, version, &[]) }
            };
            changes.push(next);
        }
        store.resources.commit(commit(changes)).await.unwrap();
        if round % 5 == 0 {
            reindex(&store, &mut random, &round.to_string()).await;
        }
        let [there, unsaid, missing] = compare(&database.url).await;
        assert_eq!([unsaid, missing], [0, 0], "after round {round}");
        most = most.max(there);
    }
    assert!(most > 200, "there were {most} values");
    let all = (0_i64..).zip(versions).filter(|(_, version)| *version > 0);
    let gone = all.map(|(number, version)| {
        deletion(TYPES[usize::try_from(number % 2).unwrap()], &number.to_string(), version + 1)
    });
    store.resources.commit(commit(gone)).await.unwrap();
    assert_eq!(compare(&database.url).await, [0; 3]);
    store.close().await;
}

/// Indexes all Patients anew, by other values.
async fn reindex(store: &Store, random: &mut Random, wanted: &str) {
    let types = [("Patient".to_owned(), String::new(), wanted.to_owned())];
    store.resources.begin_walks(&types).await.unwrap();
    while let Some(walk) = store.resources.walks(true).await.unwrap().into_iter().next() {
        let found = store.resources.walk(&walk, 5).await.unwrap();
        let there = found.iter().filter(|(_, stored)| stored.body.is_some());
        let resources = there.map(|(_, stored)| Indexed {
            id: stored.id.clone(),
            version: stored.version,
            index: odd_index(random, "Patient"),
        });
        let step = Step {
            resource_type: "Patient".into(),
            wanted: walk.wanted.clone(),
            from: walk.position,
            to: found.last().map(|(row, _)| *row),
            done: 0,
            resources: resources.collect(),
        };
        let commit = Commit { step: Some(Box::new(step)), ..Commit::default() };
        store.resources.commit(commit).await.unwrap();
    }
}

/// The schema before rows said what they are found by.
const BEFORE: [(i64, &str, &str); 6] = [
    (1, "first", include_str!("../../migrations/sqlite/0001_first.sql")),
    (2, "search", include_str!("../../migrations/sqlite/0002_search.sql")),
    (3, "history", include_str!("../../migrations/sqlite/0003_history.sql")),
    (4, "index state", include_str!("../../migrations/sqlite/0004_index_state.sql")),
    (5, "subscription", include_str!("../../migrations/sqlite/0005_subscription.sql")),
    (6, "bulk", include_str!("../../migrations/sqlite/0006_bulk.sql")),
];

/// Writes resources as the program did with that schema.
async fn write_before(url: &str, model: &Model) {
    let mut connection = connect(url).await;
    let migrations = BEFORE.map(|(number, name, sql)| {
        let sql = AssertSqlSafe(sql).into_sql_str();
        Migration::new(number, name.into(), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.into()).run(&mut connection).await.unwrap();
    let mut parameters: Vec<(usize, String)> = Vec::new();
    for (type_id, name) in (1_i64..).zip(TYPES) {
        let sql = "INSERT INTO resource_type (type_id, name) VALUES (?, ?)";
        sqlx::query(sql).bind(type_id).bind(name).execute(&mut connection).await.unwrap();
    }
    for (kind, order) in &model.order {
        let number = TYPES.iter().position(|name| **name == *kind.0).unwrap();
        let type_id = i64::try_from(number).unwrap() + 1;
        let row_id = (type_id << 39) + i64::try_from(*order).unwrap() + 1;
        let live = model.live.get(kind);
        let sql = "INSERT INTO resource \
                   (row_id, type_id, id, version, last_updated, seq, method, body) \
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        sqlx::query(sql)
            .bind(row_id)
            .bind(type_id)
            .bind(&kind.1)
            .bind(model.versions[kind])
            .bind(live.map_or(7, |known| known.last_updated))
            .bind(row_id)
            .bind(if live.is_some() { 2 } else { 3 })
            .bind(live.map(|_| "{}"))
            .execute(&mut connection)
            .await
            .unwrap();
        for row in live.iter().flat_map(|known| &known.index) {
            let name = (number, row.code.clone());
            let known = parameters.iter().position(|known| *known == name);
            let parameter = known.unwrap_or_else(|| {
                parameters.push(name);
                parameters.len() - 1
            });
            let insert = match &row.value {
                IndexValue::Key(key) => {
                    let sql = "INSERT OR IGNORE INTO key_value VALUES (?, ?, ?)";
                    let key = key.replace('\0', "\u{fffd}");
                    sqlx::query(sql).bind(row_id).bind(parameter as i64 + 1).bind(key)
                }
                IndexValue::Date(low, high) => {
                    let sql = "INSERT OR IGNORE INTO date_value VALUES (?, ?, ?, ?)";
                    let query = sqlx::query(sql).bind(row_id).bind(parameter as i64 + 1);
                    query.bind(*low).bind(*high)
                }
                IndexValue::Number(low, high, unit) => {
                    let sql = "INSERT OR IGNORE INTO number_value VALUES (?, ?, ?, ?, ?)";
                    let query = sqlx::query(sql).bind(row_id).bind(parameter as i64 + 1);
                    query.bind(*low).bind(*high).bind(unit.clone())
                }
            };
            insert.execute(&mut connection).await.unwrap();
        }
    }
    for (parameter, (number, code)) in (1_i64..).zip(&parameters) {
        let sql = "INSERT INTO parameter (parameter_id, type_id, code) VALUES (?, ?, ?)";
        let query = sqlx::query(sql).bind(parameter).bind(*number as i64 + 1).bind(code);
        query.execute(&mut connection).await.unwrap();
    }
    let sql = "UPDATE counter SET row_number = 1000, seq = 1000";
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Resources without texts that are cut, as the older program would have cut them.
fn old_model(random: &mut Random) -> Model {
    let mut model = Model::default();
    for order in 0..40 {
        let kind = (random.pick(&TYPES).to_owned(), order.to_string());
        model.order.insert(kind.clone(), order);
        model.versions.insert(kind.clone(), 1 + i64::try_from(order % 3).unwrap());
        if !random.chance(5) {
            let mut index = odd_index(random, &kind.0);
            index.retain(|row| {
                row.code != "odd" || !matches!(&row.value, IndexValue::Key(key) if key.len() > 400)
            });
            let last_updated = i64::try_from(random.below(24)).unwrap();
            model.live.insert(kind, Known { order, last_updated, index });
        }
    }
    model
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_an_older_program_is_found_as_it_was() {
    for seed in 1..=3 {
        let database = &fresh()[0];
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let model = old_model(&mut random);
        write_before(&database.url, &model).await;
        let store = open(&database.url).await;
        let [there, unsaid, missing] = compare(&database.url).await;
        assert!(there > 100, "there are {there} values");
        assert_eq!([unsaid, missing], [0, 0]);
        for ((kind, id), known) in &model.live {
            let read = store.resources.read(kind, id).await.unwrap().unwrap();
            assert_eq!(
                (&read.body.as_deref(), read.last_updated),
                (&Some("{}"), known.last_updated)
            );
        }
        for _ in 0..150 {
            let mut query = Query { count: 100, ..random_query(&mut random) };
            query.total = false;
            let page = store.resources.search(&query).await.unwrap();
            let found: Vec<_> = page.matches.into_iter().map(|found| found.id).collect();
            assert_eq!(found, model.search(&query), "{query:?}");
        }
        for resource_type in TYPES {
            let all = Query {
                resource_type: resource_type.into(),
                condition: Condition::All(Vec::new()),
                sort: Vec::new(),
                count: 100,
                cursor: None,
                total: false,
            };
            for number in NUMBERS {
                let exactly = || [Bound::Included(number), Bound::Included(number)];
                let open = [Bound::Open, Bound::Open];
                for (low, high) in [(exactly(), open), (open, exactly())] {
                    let condition = Condition::Number("odd number".into(), low, high, None);
                    // Once by the table, once by the rows.
                    for condition in [condition.clone(), Condition::Not(Box::new(condition))] {
                        let query = Query { condition, ..all.clone() };
                        let page = store.resources.search(&query).await.unwrap();
                        let found: Vec<_> = page.matches.into_iter().map(|one| one.id).collect();
                        assert_eq!(found, model.search(&query), "{query:?}");
                    }
                }
            }
        }
        // What is written now takes the older values out.
        let all = model.live.keys().map(|(kind, id)| {
            let version = model.versions[&(kind.clone(), id.clone())];
            Change { expected: Some(version), ..deletion(kind, id, version + 1) }
        });
        store.resources.commit(commit(all)).await.unwrap();
        assert_eq!(compare(&database.url).await, [0; 3]);
        store.close().await;
    }
}
