//! The files of a path.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lumbar_fhir::Json;
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::format::xml;

use super::manifest::Manifest;
use super::{CONFORMANCE, Entry, Packages, archive, head};

/// Most files of one path, those of its packages among them.
const MAX_FILES: usize = 50_000;
/// Most bytes of one file.
const MAX_FILE: u64 = 32 * 1024 * 1024;
/// Most bytes of all resources that are kept of one path.
const MAX_KEPT: u64 = 512 * 1024 * 1024;
/// Most folders within each other.
const MAX_DEPTH: usize = 32;

/// Reads one path.
pub(super) struct Reader<'a> {
    pub(super) definitions: &'a Definitions,
    pub(super) packages: &'a mut Packages,
    pub(super) files: usize,
    pub(super) bytes: u64,
}

impl Reader<'_> {
    pub(super) fn read(&mut self, path: &Path) -> Result<(), String> {
        let meta = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
        if meta.is_dir() {
            return self.folder(path, false, 0);
        }
        let known = self.packages.entries.len() + self.packages.skipped;
        let packages = self.packages.manifests.len();
        self.file(path, false)?;
        let found = self.packages.entries.len() + self.packages.skipped;
        if found == known && self.packages.manifests.len() == packages {
            return Err(format!(
                "{}: neither a FHIR resource (.json, .xml) nor a FHIR package (.tgz)",
                path.display()
            ));
        }
        Ok(())
    }

    /// In order, so that two starts do the same. Links to folders are not followed.
    fn folder(&mut self, path: &Path, in_package: bool, depth: usize) -> Result<(), String> {
        let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        if depth > MAX_DEPTH {
            return Err(fault(&format!("folders lie more than {MAX_DEPTH} deep")));
        }
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(path).map_err(|error| fault(&error))? {
            self.count(path)?;
            paths.push(entry.map_err(|error| fault(&error))?.path());
        }
        paths.sort();
        let manifest = path.join("package.json");
        let mut in_package = in_package;
        if manifest.is_file() {
            let text = self.bytes_of(&manifest)?;
            let found = Manifest::read(&text, &manifest.display().to_string())?;
            in_package |= found.is_some();
            self.packages.manifests.extend(found);
        }
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_link = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink());
            if path.is_dir() {
                let examples = in_package && matches!(name, "example" | "examples");
                if !is_link && !examples && !name.starts_with('.') {
                    self.folder(&path, in_package, depth + 1)?;
                }
            } else if path.is_file() && !name.starts_with('.') && name != "package.json" {
                self.file(&path, in_package)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, in_package: bool) -> Result<(), String> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let place = path.display().to_string();
        if name.ends_with(".tgz") || name.ends_with(".tar.gz") {
            return self.package(path);
        }
        if name.ends_with(".json") {
            let text = self.bytes_of(path)?;
            return self.text(&place, text, in_package);
        }
        if name.ends_with(".xml") {
            let text = self.bytes_of(path)?;
            let resource = xml::parse(self.definitions, &text);
            let resource = resource.map_err(|error| format!("{place}: {error}"))?;
            return self.text(&place, resource.to_string().into_bytes(), in_package);
        }
        Ok(())
    }

    fn package(&mut self, path: &Path) -> Result<(), String> {
        let mut found = None;
        let place = |name: &str| format!("{}: {name}", path.display());
        let left = MAX_FILES.saturating_sub(self.files);
        archive::read(path, MAX_FILE, left, |name, text| {
            self.count(path)?;
            if name == "package.json" {
                found = Manifest::read(&text, &place(name))?;
                return Ok(());
            }
            if name.starts_with('.') {
                return Ok(());
            }
            self.text(&place(name), text, true)
        })?;
        match found {
            Some(manifest) => {
                self.packages.manifests.push(manifest);
                Ok(())
            }
            None => Err(format!(
                "{}: no FHIR package: package/package.json is missing or names no fhirVersions",
                path.display()
            )),
        }
    }

    /// One JSON text. A Bundle is what its entries are.
    fn text(&mut self, place: &str, text: Vec<u8>, in_package: bool) -> Result<(), String> {
        let Some(head) = head::read(&text) else {
            let error = Json::parse(&text).err();
            let error = error.map_or("no JSON object".to_owned(), |error| error.to_string());
            return Err(format!("{place}: {error}"));
        };
        let Some(resource_type) = head.resource_type else { return Ok(()) };
        if resource_type == "Bundle" {
            let bundle = Json::parse(&text).map_err(|error| format!("{place}: {error}"))?;
            let resources = bundle.list("entry").iter().filter_map(|entry| entry.get("resource"));
            for (index, resource) in resources.enumerate() {
                self.count(Path::new(place))?;
                let is_bundle = resource.str_at(&["resourceType"]) == Some("Bundle");
                if !is_bundle {
                    let text = resource.to_string().into_bytes();
                    self.text(&format!("{place}: entry {index}"), text, in_package)?;
                }
            }
            return Ok(());
        }
        if !CONFORMANCE.contains(&resource_type.as_str()) {
            self.packages.skipped += 1;
            return Ok(());
        }
        self.bytes = self.bytes.saturating_add(text.len() as u64);
        if self.bytes > MAX_KEPT {
            return Err(format!("{place}: a path has {MAX_KEPT} bytes of resources at most"));
        }
        self.packages.entries.push(Entry {
            place: place.to_owned(),
            resource_type,
            id: head.id,
            url: head.url,
            version: head.version,
            of_type: head.of_type,
            kind: head.kind,
            in_package,
            text: Arc::from(text),
        });
        Ok(())
    }

    fn bytes_of(&self, path: &Path) -> Result<Vec<u8>, String> {
        let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let size = fs::metadata(path).map_err(|error| fault(&error))?.len();
        if size > MAX_FILE {
            return Err(fault(&format!("a file has {MAX_FILE} bytes at most")));
        }
        fs::read(path).map_err(|error| fault(&error))
    }

    fn count(&mut self, path: &Path) -> Result<(), String> {
        self.files += 1;
        if self.files > MAX_FILES {
            return Err(format!("{}: a path has {MAX_FILES} files at most", path.display()));
        }
        Ok(())
    }
}
