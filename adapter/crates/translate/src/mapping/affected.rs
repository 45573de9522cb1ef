//! Which records a changed row changes.
//!
//! Deltas are computed per table: a changed session does not resend its slots. So the columns by
//! which rows point at each other are indexed ([`Mapping::links`]) and followed backwards
//! ([`Mapping::affected`]).

use std::sync::Arc;

use super::join::{Find, How, Join};
use super::{Mapping, RecordRules};
use crate::record::{Link, Need, Row, RowKey, key_text};

impl Mapping {
    /// The links that a row makes: what a store must index to answer [`Need::Linked`].
    pub fn links(&self, row: &Row) -> Vec<Link> {
        self.links_of(row, true)
    }

    /// The links that a row makes and that joins follow: what a [`RowSet`](crate::record::RowSet)
    /// must know to map.
    pub fn joined_links(&self, row: &Row) -> Vec<Link> {
        self.links_of(row, false)
    }

    fn links_of(&self, row: &Row, remap: bool) -> Vec<Link> {
        let mut links: Vec<Link> = Vec::new();
        for rules in &self.records {
            for join in &rules.joins {
                let link = match &join.how {
                    How::Column(column) if remap && join.remap => {
                        let table = self.start_table(rules, join);
                        (**table == *row.key.table)
                            .then(|| self.key_in(row, column, &join.table))
                            .flatten()
                            .map(|key| self.link_to(table, column, &key))
                    }
                    How::Linked(column) if *join.table == *row.key.table => {
                        row.text(column).map(|text| {
                            let start = self.start_table(rules, join);
                            let key = format!("{}|{}", row.owner(), key_text(text));
                            self.link_to(&join.table, column, &RowKey { table: start.clone(), key })
                        })
                    }
                    _ => None,
                };
                links.extend(link.filter(|link| !links.contains(link)));
            }
        }
        links
    }

    /// Where the roots are that a new or changed row changes. A root changes itself.
    pub fn affected(&self, row: &Row) -> Vec<Find> {
        let mut finds = Vec::new();
        for rules in &self.records {
            if rules.table == row.key.table {
                finds.push(Find { need: Need::Row(row.key.clone()), then: Vec::new() });
            }
            for join in rules.joins.iter().filter(|join| join.table == row.key.table) {
                let Some(need) = self.backward(rules, join, row) else { continue };
                let mut then = Vec::new();
                let mut from = join.from;
                while let Some(join) = from.and_then(|index| rules.joins.get(index)) {
                    let How::Column(column) = &join.how else { break };
                    then.push((self.start_table(rules, join).clone(), column.clone()));
                    from = join.from;
                }
                let find = Find { need, then };
                if !finds.contains(&find) {
                    finds.push(find);
                }
            }
        }
        finds
    }

    /// The starting rows of a join that reach `row`.
    fn backward(&self, rules: &RecordRules, join: &Join, row: &Row) -> Option<Need> {
        let start = self.start_table(rules, join);
        match &join.how {
            How::Column(column) => {
                let table = self.layout.table(start)?;
                let own = match table.key.as_slice() {
                    [only] => table.columns.get(*only).is_some_and(|key| *key.name == **column),
                    _ => false,
                };
                if own {
                    // Two tables with the same key: the other half is known by its key.
                    let key = RowKey { table: start.clone(), key: row.key.key.clone() };
                    return Some(Need::Row(key));
                }
                join.remap.then(|| Need::Linked(self.link_to(start, column, &row.key)))
            }
            How::Linked(column) => self.key_in(row, column, start).map(Need::Row),
        }
    }

    fn start_table<'a>(&self, rules: &'a RecordRules, join: &Join) -> &'a Arc<str> {
        let from = join.from.and_then(|index| rules.joins.get(index));
        from.map_or(&rules.table, |from| &from.table)
    }
}
