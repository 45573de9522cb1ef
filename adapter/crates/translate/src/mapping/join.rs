//! Records: a root row with the rows that belong to it, as one tree.
//!
//! The cells of the root stand at the top under their column names; a joined row stands under the
//! join's name, in lower case, with `known` (whether the row was found), `key`, the cells that the
//! join takes and, when it can be referred to, `id`, `role` and `resource`. Every leaf can be traced
//! to file, row and column.

use std::sync::Arc;

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::{Json, Locator, Object};

use super::{Mapping, RecordRules};
use crate::identity;
use crate::record::{Link, Need, Row, RowKey, RowSet, Table, key_text};

/// How a root row reaches other rows.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) name: String,
    /// The join whose rows are the starting point; the root otherwise.
    pub(crate) from: Option<usize>,
    pub(crate) table: Arc<str>,
    pub(crate) how: How,
    /// Column and table that lead on from the rows found.
    pub(crate) through: Option<(Arc<str>, Arc<str>)>,
    /// Columns that the record takes up.
    pub(crate) take: Vec<String>,
    /// Type of the resource made from the row; `kind` when it depends on the row.
    pub(crate) resource: String,
    /// Whether it decides what kind of resource the root becomes.
    pub(crate) kind: bool,
    /// Whether a change of the row changes the root's resources.
    pub(crate) remap: bool,
}

/// Which column makes the join.
#[derive(Debug)]
pub(crate) enum How {
    /// A column of the starting row holds the key of the other row.
    Column(Arc<str>),
    /// That column of the other rows holds the key of the starting row.
    Linked(Arc<str>),
}

/// Rows to look for and how to go on from them: every row found is a key for the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Find {
    /// Where to start.
    pub need: Need,
    /// Table and column by which further rows point at those found so far.
    pub then: Vec<(Arc<str>, Arc<str>)>,
}

/// One row that a join reached.
pub(crate) struct Joined<'a> {
    key: RowKey,
    row: Option<&'a Row>,
    /// The row between, of a join that leads on.
    between: Option<&'a Row>,
}

impl<'a> Joined<'a> {
    /// The row, when it is known.
    pub(crate) fn row(&self) -> Option<&'a Row> {
        self.row
    }
}

/// A record: tree, and the rows it was made of.
pub(crate) struct Record<'a> {
    pub(crate) tree: Json,
    root: &'a Row,
    joins: &'a [Join],
    rows: Vec<Vec<Joined<'a>>>,
    organisation: String,
}

impl Record<'_> {
    /// ODS code of the owning organisation, its GUID when the code is unknown, empty when the
    /// table has no owner.
    pub(crate) fn organisation(&self) -> &str {
        &self.organisation
    }

    /// The place of a cell named `Column` or `join.Column`.
    pub(crate) fn locate(&self, source: &str) -> Locator {
        let Some((join, column)) = source.split_once('.') else { return self.root.locator(source) };
        let index = self.joins.iter().position(|other| other.name == join);
        let found = index.and_then(|index| self.rows.get(index)?.first());
        match found.and_then(|joined| joined.between.or(joined.row)) {
            Some(row) => row.locator(column),
            None => self.root.locator(""),
        }
    }

    /// The raw text of such a cell.
    pub(crate) fn raw(&self, source: &str) -> Option<&str> {
        let Some((join, column)) = source.split_once('.') else { return self.root.text(source) };
        let index = self.joins.iter().position(|other| other.name == join)?;
        let joined = self.rows.get(index)?.first()?;
        joined.row.and_then(|row| row.text(column)).or_else(|| joined.between?.text(column))
    }

    /// Keys of all rows that the record is made of, the root among them.
    pub(crate) fn used(&self) -> Vec<RowKey> {
        let mut used = vec![self.root.key.clone()];
        for joined in self.rows.iter().flatten() {
            used.extend(joined.row.map(|row| row.key.clone()));
            used.extend(joined.between.map(|row| row.key.clone()));
        }
        used
    }
}

impl Mapping {
    /// The record of a root row. `swap` stands in for the row of its key, the root included.
    pub(crate) fn record<'a>(
        &'a self,
        rules: &'a RecordRules,
        root: &'a Row,
        rows: &'a RowSet,
        swap: Option<&'a Row>,
        kind_only: bool,
        definitions: &Definitions,
    ) -> Record<'a> {
        let root = swap.filter(|swap| swap.key == root.key).unwrap_or(root);
        let joined = self.join(rules, root, rows, swap, kind_only, &mut None);
        let mut tree = Object::new();
        tree.set("id", self.id_of(&root.key));
        if let Some(table) = self.layout.table(&root.key.table) {
            cells(&mut tree, table, root, None);
        }
        for (join, found) in rules.joins.iter().zip(&joined) {
            let nodes = found.iter().map(|one| self.node(join, one, rows, definitions));
            match (&join.how, join.from) {
                (How::Column(_), None) => {
                    if let Some(node) = nodes.into_iter().next() {
                        tree.set(&join.name, node);
                    }
                }
                _ if found.is_empty() => {}
                _ => tree.set(&join.name, nodes.collect::<Vec<_>>()),
            }
        }
        let organisation = self.organisation(root, rows);
        Record { tree: Json::Object(tree), root, joins: &rules.joins, rows: joined, organisation }
    }

    /// The rows that every join reaches; what is not known goes to `needs`.
    pub(crate) fn join<'a>(
        &'a self,
        rules: &'a RecordRules,
        root: &'a Row,
        rows: &'a RowSet,
        swap: Option<&'a Row>,
        kind_only: bool,
        needs: &mut Option<Vec<Need>>,
    ) -> Vec<Vec<Joined<'a>>> {
        let get = |key: &RowKey, needs: &mut Option<Vec<Need>>| {
            if let Some(needs) = needs {
                let need = Need::Row(key.clone());
                if !rows.knows(&need) {
                    needs.push(need);
                }
            }
            swap.filter(|swap| swap.key == *key).or_else(|| rows.get(key))
        };
        let mut all: Vec<Vec<Joined<'a>>> = Vec::with_capacity(rules.joins.len());
        for join in &rules.joins {
            let mut found = Vec::new();
            if kind_only && !join.kind {
                all.push(found);
                continue;
            }
            let start: Vec<&'a Row> = match join.from {
                None => vec![root],
                Some(index) => all
                    .get(index)
                    .map_or(Vec::new(), |list| list.iter().filter_map(|one| one.row).collect()),
            };
            for row in start {
                match &join.how {
                    How::Column(column) => {
                        if let Some(key) = self.key_in(row, column, &join.table) {
                            let row = get(&key, needs);
                            found.push(Joined { key, row, between: None });
                        }
                    }
                    How::Linked(column) => {
                        let link = self.link_to(&join.table, column, &row.key);
                        let need = Need::Linked(link.clone());
                        if let Some(needs) = needs
                            && !rows.knows(&need)
                        {
                            needs.push(need);
                        }
                        for linked in rows.linked(&link) {
                            let still = linked.text(column).map(key_text);
                            if still.as_deref() != Some(row.own_key()) {
                                continue;
                            }
                            let joined = match &join.through {
                                None => Some(Joined {
                                    key: linked.key.clone(),
                                    row: Some(linked),
                                    between: None,
                                }),
                                Some((onward, table)) => {
                                    // A linking row without an owner belongs to the starting row's.
                                    self.key_for(linked, onward, table, row.owner()).map(|key| {
                                        let row = get(&key, needs);
                                        Joined { key, row, between: Some(linked) }
                                    })
                                }
                            };
                            found.extend(joined);
                        }
                    }
                }
            }
            all.push(found);
        }
        all
    }

    fn node(
        &self,
        join: &Join,
        joined: &Joined<'_>,
        rows: &RowSet,
        definitions: &Definitions,
    ) -> Json {
        let mut node = Object::new();
        node.set("known", joined.row.is_some());
        let (owner, own) = joined.key.key.split_once('|').unwrap_or(("", &joined.key.key));
        node.set("key", own);
        if join.resource.is_empty() {
            return self.taken(node, join, joined);
        }
        if joined.row.is_some() {
            node.set("id", self.id_of(&joined.key));
        }
        node.set("role", self.role(&joined.key.table));
        if owner.is_empty() {
            node.set("shared", true);
        }
        if join.resource != "kind" {
            node.set("resource", join.resource.as_str());
        } else if let Some(kind) = joined.row.and_then(|row| self.kind_of(row, rows, definitions)) {
            node.set("resource", kind);
        }
        self.taken(node, join, joined)
    }

    fn taken(&self, mut node: Object, join: &Join, joined: &Joined<'_>) -> Json {
        for row in joined.row.iter().chain(&joined.between) {
            if let Some(table) = self.layout.table(&row.key.table) {
                cells(&mut node, table, row, Some(&join.take));
            }
        }
        Json::Object(node)
    }

    /// The key that a cell holds, as a key of `table`.
    pub(crate) fn key_in(&self, row: &Row, column: &str, table: &Arc<str>) -> Option<RowKey> {
        self.key_for(row, column, table, row.owner())
    }

    fn key_for(&self, row: &Row, column: &str, table: &Arc<str>, owner: &str) -> Option<RowKey> {
        let own = key_text(row.text(column)?);
        if self.layout.table(&row.key.table)?.column(column)?.kind == crate::record::Kind::Guid {
            identity::guid(&own)?;
        }
        let owner = if self.layout.table(table)?.owner.is_some() { owner } else { "" };
        Some(RowKey { table: table.clone(), key: format!("{owner}|{own}") })
    }

    /// The link by which rows of `table` point at the row of `key`.
    pub(crate) fn link_to(&self, table: &Arc<str>, column: &Arc<str>, key: &RowKey) -> Link {
        let own = key.key.split_once('|').map_or(key.key.as_str(), |(_, own)| own);
        let both = self.has_owner(table) && self.has_owner(&key.table);
        let key = if both { key.key.clone() } else { format!("|{own}") };
        Link { table: table.clone(), column: column.clone(), key }
    }

    fn has_owner(&self, table: &str) -> bool {
        self.layout.table(table).is_some_and(|table| table.owner.is_some())
    }

    /// ODS code of the owner of a row, or its GUID.
    fn organisation(&self, row: &Row, rows: &RowSet) -> String {
        let owner = row.owner();
        if owner.is_empty() {
            return String::new();
        }
        let code = self.owner_key(owner).and_then(|key| rows.get(&key)?.text(&self.owner_code));
        code.map(str::trim).filter(|code| !code.is_empty()).unwrap_or(owner).to_string()
    }

    /// The row that describes an owner.
    pub(crate) fn owner_key(&self, owner: &str) -> Option<RowKey> {
        (!owner.is_empty())
            .then(|| RowKey { table: self.owner_table.clone(), key: format!("|{owner}") })
    }
}

/// Adds the cells of a row that can be read, all of them or those named in `take`.
fn cells(tree: &mut Object, table: &Table, row: &Row, take: Option<&[String]>) {
    let mut add = |name: &str, raw: &Json| {
        let (Some(column), Some(raw)) = (table.column(name), raw.as_str()) else { return };
        if let Some(value) = column.kind.read(raw).value {
            tree.set(name, value);
        }
    };
    match take {
        None => row.cells.iter().for_each(|(name, raw)| add(name, raw)),
        Some(names) => {
            for name in names {
                if let Some(raw) = row.cells.get(name) {
                    add(name, raw);
                }
            }
        }
    }
}
