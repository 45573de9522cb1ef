//! Where elements stand in a JSON text.

use super::super::expression::{NodeId, Wanted};
use super::MAX_DEPTH;

/// Reads along the ways of `wanted` and notes where they lead; ends at the first fault.
pub(in super::super) fn locate(text: &str, wanted: &mut Wanted) {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0, wanted };
    scanner.blank();
    scanner.wanted.found(Wanted::ROOT, 0, scanner.at);
    // What a fault leaves unread has no place.
    let _ = scanner.value(&[Wanted::ROOT], 0);
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    wanted: &'a mut Wanted,
}

impl<'a> Scanner<'a> {
    /// A value that is one of `nodes`.
    fn value(&mut self, nodes: &[NodeId], depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.blank();
        match self.bytes.get(self.at)? {
            b'[' => self.array(nodes, depth),
            b'{' => {
                let nodes = self.or_first(nodes);
                self.object(&nodes, depth)
            }
            _ => {
                self.or_first(nodes);
                self.skip()
            }
        }
    }

    /// A value that is no list stands for its first item, too.
    fn or_first(&mut self, nodes: &[NodeId]) -> Vec<NodeId> {
        let mut all = nodes.to_vec();
        for node in nodes {
            if let Some(item) = self.wanted.item(*node, 0) {
                self.wanted.found(item, 0, self.at);
                all.push(item);
            }
        }
        all
    }

    fn object(&mut self, nodes: &[NodeId], depth: usize) -> Option<()> {
        self.at += 1;
        loop {
            self.blank();
            match self.bytes.get(self.at)? {
                b'}' => break,
                b',' => self.at += 1,
                b'"' => {
                    let start = self.at;
                    let name = self.string()?;
                    self.blank();
                    (self.bytes.get(self.at) == Some(&b':')).then_some(())?;
                    self.at += 1;
                    let mut below = Vec::new();
                    for node in nodes {
                        for (child, fit) in self.wanted.elements(*node, name) {
                            self.wanted.found(child, fit, start);
                            below.push(child);
                        }
                    }
                    self.part(&below, depth)?;
                }
                _ => return None,
            }
        }
        self.at += 1;
        Some(())
    }

    fn array(&mut self, nodes: &[NodeId], depth: usize) -> Option<()> {
        self.at += 1;
        let mut index = 0;
        loop {
            self.blank();
            match self.bytes.get(self.at)? {
                b']' => break,
                b',' => self.at += 1,
                _ => {
                    let mut below = if index == 0 { nodes.to_vec() } else { Vec::new() };
                    for node in nodes {
                        if let Some(item) = self.wanted.item(*node, index) {
                            self.wanted.found(item, 0, self.at);
                            below.push(item);
                        }
                    }
                    self.part(&below, depth)?;
                    index += 1;
                }
            }
        }
        self.at += 1;
        Some(())
    }

    fn part(&mut self, nodes: &[NodeId], depth: usize) -> Option<()> {
        if nodes.is_empty() { self.skip() } else { self.value(nodes, depth + 1) }
    }

    /// Passes over a value, and at least one byte.
    fn skip(&mut self) -> Option<()> {
        self.blank();
        let mut open = 0_usize;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open = open.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                _ => self.word(),
            }
            if open == 0 {
                return Some(());
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) {
        while self.bytes.get(self.at).is_some_and(|byte| !b",:]}[{\" \n\r\t".contains(byte)) {
            self.at += 1;
        }
    }

    /// A string as written, without its quotes; names of elements have no escapes.
    fn string(&mut self) -> Option<&'a str> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        let text = self.bytes.get(start..self.at)?;
        self.at += 1;
        std::str::from_utf8(text).ok()
    }

    fn blank(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }
}
