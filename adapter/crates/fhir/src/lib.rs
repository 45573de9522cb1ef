#![doc = include_str!("../README.md")]

pub mod datetime;
pub mod definitions;
pub mod format;
pub mod issue;
pub mod json_schema;
pub mod links;
pub mod patch;
pub mod path;
mod pattern;
pub mod profile;
pub mod questionnaire;
pub mod rest;
pub mod search;
pub mod snapshot;
pub mod summary;
pub mod terminology;
pub mod validate;

pub use format::json::{Json, JsonError, Object};
pub use issue::{Issue, IssueType, Locator, Severity};
