//! Files to be read, from disk or compiled in.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use include_dir::Dir;

/// Most files of one folder.
const MAX_FILES: usize = 10_000;

/// A file that can be opened more than once.
pub enum Input {
    /// On disk.
    Path(PathBuf),
    /// Compiled in: name and bytes.
    Bytes(String, &'static [u8]),
}

impl Input {
    /// Name without folders.
    pub fn name(&self) -> String {
        match self {
            Input::Path(path) => path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            Input::Bytes(name, _) => name.clone(),
        }
    }

    /// Opens it from its beginning.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, String> {
        match self {
            Input::Path(path) => {
                let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
                Ok(Box::new(BufReader::with_capacity(1 << 16, file)))
            }
            Input::Bytes(_, bytes) => Ok(Box::new(Cursor::new(*bytes))),
        }
    }
}

/// The files at `paths`. A folder stands for the files in it (not in its sub-folders) whose names
/// end with `extension`, in either case; a file that is named itself may have any name.
///
/// # Errors
/// A sentence that names the path.
pub fn inputs(paths: &[PathBuf], extension: &str) -> Result<Vec<Input>, String> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries =
                std::fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
            let mut files: Vec<PathBuf> = Vec::new();
            for entry in entries.take(MAX_FILES) {
                let entry = entry.map_err(|e| format!("{}: {e}", path.display()))?.path();
                let of_kind = entry.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
                if entry.is_file() && of_kind {
                    files.push(entry);
                }
            }
            files.sort();
            found.extend(files.into_iter().map(Input::Path));
        } else if path.exists() {
            found.push(Input::Path(path.clone()));
        } else {
            return Err(format!("{}: there is no such file or folder", path.display()));
        }
    }
    if found.is_empty() {
        return Err(format!("there are no .{extension} files at the given paths"));
    }
    Ok(found)
}

/// Name of a batch of files, for `meta.source`: the folder they are in.
pub fn batch_name(paths: &[PathBuf]) -> String {
    let folder = paths
        .first()
        .and_then(|path| if path.is_dir() { Some(path.as_path()) } else { path.parent() });
    let name = folder.and_then(|folder| folder.canonicalize().ok());
    let name =
        name.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "stdin".to_owned())
}

/// The files of a compiled-in folder.
pub fn embedded(folder: &'static Dir<'static>) -> Vec<Input> {
    let files = folder.files().filter_map(|file| {
        let name = file.path().file_name()?.to_str()?.to_owned();
        Some(Input::Bytes(name, file.contents()))
    });
    files.collect()
}

/// Names and whole contents of the files at `paths` (see `inputs`); `-` is stdin.
///
/// # Errors
/// A sentence that names the path.
pub fn read_files(paths: &[PathBuf], extension: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    if let [path] = paths
        && path == Path::new("-")
    {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        return Ok(vec![("stdin".to_owned(), bytes)]);
    }
    let mut files = Vec::new();
    for input in inputs(paths, extension)? {
        let mut bytes = Vec::new();
        let name = input.name();
        input.open()?.read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
        files.push((name, bytes));
    }
    Ok(files)
}
