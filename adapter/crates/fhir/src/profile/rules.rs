//! What a profile adds to a type of R4, ready to be checked:
//! <https://hl7.org/fhir/R4/elementdefinition.html>.
//!
//! A [`Tree`] holds only nodes that have a rule or lead to one; what the base type says already is
//! not repeated.

use crate::Json;
use crate::definitions::ElementType;
use crate::path::Expression;

/// A place among [`Tree::nodes`].
pub(crate) type Index = usize;

/// The rules of a profile; the first node is the root.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The type that is constrained, or the type of an extension, `Extension`.
    pub of_type: String,
    pub nodes: Vec<Rules>,
}

/// The rules on one element or slice.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// The element's id: `Patient.identifier:nhsNumber.system`.
    pub id: String,
    /// The name of the JSON member; for a choice the part before the type.
    pub name: String,
    /// The types that the member may have; each with the member's whole name in a choice.
    pub members: Vec<(String, ElementType)>,
    pub is_choice: bool,
    pub is_list: bool,
    /// Least number, where it is not the base's.
    pub min: Option<usize>,
    /// Largest number, where it is not the base's.
    pub max: Option<usize>,
    /// The types that are left; empty where they are the base's.
    pub types: Vec<TypeRule>,
    pub fixed: Option<Json>,
    pub pattern: Option<Json>,
    /// The largest and the smallest value.
    pub bounds: [Option<Json>; 2],
    pub max_length: Option<usize>,
    pub binding: Option<BindingRule>,
    pub constraints: Vec<Constraint>,
    pub slicing: Option<Slicing>,
    pub slices: Vec<Slice>,
    pub children: Vec<Index>,
    /// The node whose children are this one's, too (`contentReference`).
    pub same_as: Option<Index>,
}

/// One type that an element may have, and which instances of it.
#[derive(Debug)]
pub(crate) struct TypeRule {
    pub code: String,
    /// Canonicals of profiles of which the value conforms to one.
    pub profiles: Vec<String>,
    /// What a reference may point to.
    pub targets: Vec<Target>,
    pub aggregation: Vec<Aggregation>,
    /// Whether a reference must name a version (`specific`) or must not (`independent`).
    pub is_versioned: Option<bool>,
}

/// What a reference may point to.
#[derive(Debug)]
pub(crate) enum Target {
    /// Any resource of a type.
    Type(String),
    /// A resource that conforms to a profile.
    Profile(String),
}

/// Where the target of a reference is:
/// <https://hl7.org/fhir/R4/valueset-resource-aggregation-mode.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregation {
    Contained,
    Referenced,
    Bundled,
}

/// Where an element's codes come from.
#[derive(Clone, Debug)]
pub(crate) struct BindingRule {
    /// `required`, `extensible`, `preferred` or `example`.
    pub strength: String,
    /// Canonical of the value set.
    pub value_set: String,
    /// Canonical of the value set of which even extensible codes must be.
    pub max_value_set: Option<String>,
}

/// A rule that a FHIRPath expression states.
#[derive(Debug)]
pub(crate) struct Constraint {
    pub key: String,
    pub is_error: bool,
    /// The rule in the words of the profile.
    pub human: String,
    /// `None` for an expression that cannot be read.
    pub expression: Option<Expression>,
}

/// How the items of an element are told apart: <https://hl7.org/fhir/R4/profiling.html#slicing>.
#[derive(Debug)]
pub(crate) struct Slicing {
    pub rules: SlicingRules,
    pub is_ordered: bool,
}

/// Whether items beside those of the slices are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlicingRules {
    Open,
    OpenAtEnd,
    Closed,
}

/// One slice.
#[derive(Debug)]
pub(crate) struct Slice {
    pub name: String,
    /// An item that passes all belongs to the slice.
    pub matchers: Vec<Matcher>,
    /// Whether it takes the items that belong to no other (`@default`).
    pub is_default: bool,
    pub node: Index,
}

/// One discriminator for one slice.
#[derive(Debug)]
pub(crate) struct Matcher {
    pub steps: Vec<Step>,
    pub test: Test,
}

/// One step of a discriminator's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Member(String),
    Extension(String),
    Resolve,
    OfType(String),
}

/// What tells a slice.
#[derive(Debug)]
pub(crate) enum Test {
    Fixed(Json),
    Pattern(Json),
    Binding(BindingRule),
    Exists(bool),
    /// One of these types.
    Types(Vec<String>),
    /// One of these profiles.
    Profiles(Vec<String>),
    /// One of these groups as a whole.
    Any(Vec<Vec<Matcher>>),
    /// The profile does not say how the slice is told.
    Undecided,
}

impl Rules {
    /// Whether there is anything to check on the element itself.
    pub fn is_empty(&self) -> bool {
        self.min.is_none() && self.max.is_none() && self.slices.is_empty() && !self.has_item_rules()
            // A slicing without slices matters if nothing else is allowed.
            && !self.slicing.as_ref().is_some_and(|slicing| slicing.rules == SlicingRules::Closed)
    }

    /// Whether there is anything to check on each item.
    fn has_item_rules(&self) -> bool {
        !self.types.is_empty()
            || self.fixed.is_some()
            || self.pattern.is_some()
            || self.bounds.iter().any(Option::is_some)
            || self.max_length.is_some()
            || self.binding.is_some()
            || !self.constraints.is_empty()
            || !self.children.is_empty()
            || self.same_as.is_some()
    }
}
