//! Folders of cases: an input beside what is expected of it, `<case>.<extension>` each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Files of one folder that have the name up to the first dot in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// The folder and the common name.
    base: PathBuf,
}

impl Case {
    /// The common name.
    pub fn name(&self) -> String {
        self.base.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The file with this extension, which need not exist.
    pub fn path(&self, extension: &str) -> PathBuf {
        let mut path = self.base.clone().into_os_string();
        path.push(".");
        path.push(extension);
        path.into()
    }

    /// The text of the file with this extension; `None` when there is no such file.
    pub fn read(&self, extension: &str) -> Option<String> {
        let path = self.path(extension);
        let text = path.exists().then(|| fs::read_to_string(&path))?;
        Some(text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// Compares with the text of a file; with `UPDATE_EXPECT=1` writes the file instead.
    pub fn expect(&self, extension: &str, actual: &str) -> Result<(), String> {
        let path = self.path(extension);
        if env::var_os("UPDATE_EXPECT").is_some() {
            return fs::write(&path, actual)
                .map_err(|error| format!("{}: {error}", path.display()));
        }
        match self.read(extension) {
            Some(expected) if expected == actual => Ok(()),
            Some(expected) => Err(format!(
                "{}: is not as expected (UPDATE_EXPECT=1 rewrites it)\n{}",
                path.display(),
                difference(&expected, actual)
            )),
            None => Err(format!("{}: missing; UPDATE_EXPECT=1 writes it", path.display())),
        }
    }
}

/// The first line that differs, with its number.
fn difference(expected: &str, actual: &str) -> String {
    let (mut expected, mut actual) = (expected.lines(), actual.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (expected.next(), actual.next()) {
            (Some(one), Some(two)) if one == two => {}
            (None, None) => return "only line ends differ".to_owned(),
            (one, two) => {
                let (one, two) = (one.unwrap_or("(end)"), two.unwrap_or("(end)"));
                return format!("line {number}\n  expected: {one}\n  actual:   {two}");
            }
        }
    }
}

/// The cases of a folder and the folders within it, in order of their paths. With `CASE=name`
/// only those of that name. Files that begin with a dot and README files are none.
pub fn cases(folder: &Path) -> Vec<Case> {
    let mut found = BTreeSet::new();
    collect(folder, &mut found);
    let only = env::var("CASE").ok();
    found.into_iter().filter(|case| only.as_ref().is_none_or(|name| *name == case.name())).collect()
}

fn collect(folder: &Path, found: &mut BTreeSet<Case>) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        if path.is_dir() {
            collect(&path, found);
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.split('.').next().unwrap_or_default();
        if !name.is_empty() && name != "README" {
            found.insert(Case { base: path.with_file_name(name) });
        }
    }
}

/// Runs every case of a folder; fails with all complaints, each with its path. A folder without
/// cases fails, too, unless `CASE` is given.
pub fn check(folder: &Path, run: impl Fn(&Case) -> Result<(), String>) {
    let cases = cases(folder);
    if cases.is_empty() && env::var_os("CASE").is_none() {
        panic!("{}: no cases", folder.display());
    }
    let complaints: Vec<String> = cases
        .iter()
        .filter_map(|case| run(case).err().map(|error| format!("{}: {error}", case.base.display())))
        .collect();
    if !complaints.is_empty() {
        panic!("{} of {} cases fail\n{}", complaints.len(), cases.len(), complaints.join("\n"));
    }
}
