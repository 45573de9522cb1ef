//! What R4 itself defines, as values built once: <https://hl7.org/fhir/R4/structuredefinition.html>
//! and <https://hl7.org/fhir/R4/searchparameter.html>.
//!
//! [`Definitions::r4`] reads the tables in `profiles/r4`, which are generated from HL7's
//! definition bundles. A site's own SearchParameters are added with [`Definitions::add`].
//! Profiles and value sets are not here.

mod compartment;
mod element;
mod search_parameter;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

pub use element::{Binding, Element, ElementType, Invariant, Kind, System, Type};
pub use search_parameter::{Component, SearchKind, SearchParameter};

use crate::{Issue, Json};
use compartment::Compartments;
use element::Types;
use search_parameter::SearchParameters;

const TYPES: &str = include_str!("../../../../profiles/r4/types.tsv");
const ELEMENTS: &str = include_str!("../../../../profiles/r4/elements.tsv");
const INVARIANTS: &str = include_str!("../../../../profiles/r4/invariants.tsv");
const CORRECTIONS: &str = include_str!("../../../../profiles/r4/corrections.tsv");
const SEARCH_PARAMETERS: &str = include_str!("../../../../profiles/r4/search-parameters.tsv");
const SEARCH_CORRECTIONS: &str = include_str!("../../../../profiles/r4/search-corrections.tsv");
const COMPARTMENTS: &str = include_str!("../../../../profiles/r4/compartments.tsv");

/// The set of common languages, which R4 prefers, and that of all, beyond which it lets none.
pub(crate) const LANGUAGES: [&str; 2] =
    ["http://hl7.org/fhir/ValueSet/languages", "http://hl7.org/fhir/ValueSet/all-languages"];

/// Types, elements and search parameters of R4 and of the site. A copy is cheap.
#[derive(Clone, Debug)]
pub struct Definitions {
    types: Arc<Types>,
    parameters: SearchParameters,
    compartments: Arc<Compartments>,
    issues: Arc<[Issue]>,
}

/// Those of R4, read once.
static R4: LazyLock<Definitions> = LazyLock::new(|| {
    let types = Types::read(TYPES, ELEMENTS, INVARIANTS, CORRECTIONS);
    let mut issues = Vec::new();
    let parameters =
        SearchParameters::read(SEARCH_PARAMETERS, SEARCH_CORRECTIONS, &types, &mut issues);
    let compartments = Arc::new(Compartments::read(COMPARTMENTS));
    Definitions { types: Arc::new(types), parameters, compartments, issues: issues.into() }
});

impl Definitions {
    /// The definitions of R4 (4.0.1).
    pub fn r4() -> Definitions {
        R4.clone()
    }

    /// What is wrong with the definitions themselves; empty for R4.
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }

    /// Adds a definition of the site; a SearchParameter replaces one with the same `code` and
    /// base. Other resource types, and parts that are missing or not understood, give issues.
    pub fn add(&mut self, resource: &Json) -> Vec<Issue> {
        self.parameters.add(resource, &self.types)
    }

    /// Whether `name` is a resource type that can be instantiated.
    pub fn is_resource(&self, name: &str) -> bool {
        self.type_of(name).is_some_and(|kind| kind.kind == Kind::Resource && !kind.is_abstract)
    }

    /// Whether `name` is a type whose resources have a compartment:
    /// <https://hl7.org/fhir/R4/compartmentdefinition.html>.
    pub fn is_compartment(&self, name: &str) -> bool {
        self.compartments.is_compartment(name)
    }

    /// The reference parameters of `resource_type` of which one must point to a resource of the
    /// type `of` for being in its compartment; empty when resources of the type never are.
    pub fn compartment(&self, of: &str, resource_type: &str) -> &[&'static str] {
        self.compartments.parameters(of, resource_type)
    }

    /// The resource types that can be instantiated, in alphabetical order.
    pub fn resource_types(&self) -> impl Iterator<Item = &'static str> {
        let is_resource = |kind: &&Type| kind.kind == Kind::Resource && !kind.is_abstract;
        self.types.all().filter(is_resource).map(|kind| kind.name)
    }

    /// A type by its name, or the type of a backbone element by its path (`Patient.contact`).
    pub fn type_of(&self, name: &str) -> Option<&Type> {
        self.types.find(name)
    }

    /// All types, those of backbone elements among them.
    pub fn types(&self) -> impl Iterator<Item = &Type> {
        self.types.all()
    }

    /// The type from which `kind` is derived.
    pub fn base(&self, kind: &Type) -> Option<&Type> {
        self.types.get(kind.base?)
    }

    /// Whether `name` is `of` or is derived from it.
    pub fn is_a(&self, name: &str, of: &str) -> bool {
        self.type_of(name).is_some_and(|kind| self.derives(kind, of))
    }

    pub(crate) fn derives(&self, kind: &Type, of: &str) -> bool {
        self.types.lineage(kind).any(|ancestor| ancestor.name == of)
    }

    /// The element `name` of a type or backbone element; `name` is FHIRPath's (`value`) or that
    /// of the JSON member (`valueQuantity`). Inherited elements are found, too.
    pub fn child(&self, of: &str, name: &str) -> Option<&Element> {
        self.element(self.type_of(of)?, name).or_else(|| self.choice(self.type_of(of)?, name))
    }

    /// The elements of a type in the order of the standard, inherited ones first.
    pub fn elements(&self, of: &str) -> Vec<&Element> {
        let mut lineage: Vec<&Type> = match self.type_of(of) {
            Some(kind) => self.types.lineage(kind).collect(),
            None => Vec::new(),
        };
        lineage.reverse();
        let mut elements: Vec<&Element> = Vec::new();
        for element in lineage.iter().flat_map(|kind| &kind.elements) {
            match elements.iter_mut().find(|known| known.name == element.name) {
                Some(known) => *known = element,
                None => elements.push(element),
            }
        }
        elements
    }

    /// The type of an element's content: the backbone's own for an element with children.
    pub fn content<'a>(&'a self, of: &ElementType) -> Option<&'a Type> {
        self.types.get(of.content?)
    }

    pub(crate) fn element<'a>(&'a self, kind: &'a Type, name: &str) -> Option<&'a Element> {
        self.types.lineage(kind).find_map(|kind| kind.element(name))
    }

    /// The place of the element `name` of a type: the number of the type in the lineage that has
    /// it, and its position there.
    pub(crate) fn locate(&self, kind: &Type, name: &str) -> Option<(u16, u16)> {
        self.types.lineage(kind).find_map(|kind| {
            let place = kind.elements.iter().position(|element| element.name == name)?;
            Some((kind.index, u16::try_from(place).ok()?))
        })
    }

    pub(crate) fn element_at(&self, owner: u16, place: u16) -> Option<&Element> {
        self.types.get(owner)?.elements.get(usize::from(place))
    }

    pub(crate) fn type_at(&self, index: u16) -> Option<&Type> {
        self.types.get(index)
    }

    /// The choice element that the JSON member `name` belongs to.
    pub(crate) fn choice<'a>(&'a self, kind: &'a Type, name: &str) -> Option<&'a Element> {
        let choices =
            |kind: &'a Type| kind.choices().find(|element| element.member(name).is_some());
        self.types.lineage(kind).find_map(choices)
    }

    /// The search parameters of a resource type, those of `DomainResource` and `Resource` among
    /// them.
    pub fn search_parameters(&self, resource_type: &str) -> impl Iterator<Item = &SearchParameter> {
        let lineage = self.type_of(resource_type).map(|kind| self.types.lineage(kind));
        lineage.into_iter().flatten().flat_map(|kind| self.parameters.of(kind.name))
    }

    /// All search parameters, each once for each type that it is defined for.
    pub(crate) fn all_search_parameters(&self) -> impl Iterator<Item = &SearchParameter> {
        self.parameters.all()
    }

    /// The search parameter `code` of a resource type.
    pub fn search_parameter(&self, resource_type: &str, code: &str) -> Option<&SearchParameter> {
        self.search_parameters(resource_type).find(|parameter| parameter.code == code)
    }
}

/// The fields of a table's rows; the first row names the columns.
pub(crate) fn rows<const N: usize>(table: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    table.lines().skip(1).map(|line| {
        let mut fields = [""; N];
        for (field, text) in fields.iter_mut().zip(line.split('\t')) {
            *field = text;
        }
        fields
    })
}

/// Index of a type by its name.
type Names = HashMap<&'static str, u16>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn every_expression_of_the_standard_is_understood() {
        let definitions = Definitions::r4();
        assert_eq!(definitions.issues(), []);
        assert_eq!(definitions.resource_types().count(), 146);
        assert!(definitions.is_resource("Patient") && !definitions.is_resource("DomainResource"));
        assert!(!definitions.is_resource("HumanName") && !definitions.is_resource("patient"));
    }

    #[test]
    fn elements_are_typed() {
        let definitions = Definitions::r4();
        let codes = |of: &str, name: &str| -> Vec<&str> {
            let element = definitions.child(of, name);
            element.map_or(vec!["none"], |e| e.types.iter().map(|kind| kind.code).collect())
        };
        assert_eq!(codes("Patient", "birthDate"), ["date"]);
        assert_eq!(codes("Patient", "id"), ["string"]);
        assert_eq!(codes("Patient", "deceased"), ["boolean", "dateTime"]);
        assert_eq!(codes("Patient", "deceasedBoolean"), ["boolean", "dateTime"]);
        assert_eq!(codes("Patient.contact", "name"), ["HumanName"]);
        assert_eq!(codes("Patient.contact", "modifierExtension"), ["Extension"]);
        assert_eq!(codes("Patient", "deceasedQuantity"), ["none"]);
        assert_eq!(codes("Observation.component", "referenceRange"), ["BackboneElement"]);
        let general = definitions.child("Patient", "generalPractitioner").unwrap();
        let targets: Vec<&str> = general.types[0].targets().collect();
        assert_eq!(targets, ["Organization", "Practitioner", "PractitionerRole"]);
        assert_eq!((general.min, general.max), (0, None));
        let first = &definitions.elements("Patient")[..5];
        let names: Vec<&str> = first.iter().map(|element| element.name).collect();
        assert_eq!(names, ["id", "meta", "implicitRules", "language", "text"]);
    }

    #[test]
    fn a_parameter_of_several_types_is_split() {
        let definitions = Definitions::r4();
        let text = |kind: &str, code: &str| {
            let parameter = definitions.search_parameter(kind, code)?;
            Some(parameter.expression.as_ref()?.text().to_string())
        };
        assert_eq!(text("Observation", "code").as_deref(), Some("Observation.code"));
        assert_eq!(text("Observation", "_id").as_deref(), Some("Resource.id"));
        assert_eq!(
            text("Observation", "value-quantity").as_deref(),
            Some("(Observation.value as Quantity) | (Observation.value as SampledData)")
        );
        assert_eq!(
            text("Observation", "patient").as_deref(),
            Some("Observation.subject.where(resolve() is Patient)")
        );
        let composite = definitions.search_parameter("Observation", "code-value-quantity").unwrap();
        let parts: Vec<&str> =
            composite.components.iter().map(|part| part.expression.text()).collect();
        assert_eq!(composite.kind, SearchKind::Composite);
        assert_eq!(parts, ["code", "value.as(Quantity)"]);
        assert_eq!(definitions.search_parameters("Observation").count(), 44);
    }

    #[test]
    fn corrections_replace_the_published_expressions() {
        let definitions = Definitions::r4();
        for [path, key, expression, _] in rows(CORRECTIONS) {
            let of_type = definitions.type_of(path).map(|kind| &kind.invariants);
            let (parent, name) = path.rsplit_once('.').unwrap_or_default();
            let of_element = definitions.child(parent, name).map(|element| &element.invariants);
            let mut invariants = [of_type, of_element].into_iter().flatten().flatten();
            let found = invariants.find(|invariant| invariant.key == key);
            let found = found.map_or("", |invariant| invariant.expression);
            assert_eq!(found, expression, "{path} {key}");
        }
    }

    #[test]
    fn every_base_keeps_a_part_of_the_expression() {
        let definitions = Definitions::r4();
        for [url, code, _, bases, _, expression, components] in rows(SEARCH_PARAMETERS) {
            for base in bases.split(' ') {
                let found = definitions.search_parameter(base, code);
                if expression.is_empty() {
                    assert!(found.is_none(), "{url}: {base}");
                    continue;
                }
                let parameter = found.unwrap_or_else(|| panic!("{url}: {base} has no {code}"));
                assert!(parameter.expression.is_some(), "{url}: {base}");
                let parts = components.split(" ; ").filter(|part| !part.is_empty()).count();
                assert_eq!(parameter.components.len(), parts, "{url}");
            }
        }
    }

    #[test]
    fn every_expression_of_the_standard_makes_sense_for_its_base() {
        let definitions = Definitions::r4();
        for of in definitions.resource_types() {
            for parameter in definitions.search_parameters(of) {
                let Some(expression) = &parameter.expression else { continue };
                let checked = expression.check(&definitions, Some(of));
                assert_eq!(checked, Ok(()), "{of} {}: {}", parameter.code, expression.text());
            }
        }
    }

    #[test]
    fn a_site_adds_its_own_parameters() {
        let mut definitions = Definitions::r4();
        let mine = json!({
            "resourceType": "SearchParameter", "url": "https://lumbar.example/fhir/x",
            "code": "risk", "base": ["Observation", "Nothing"], "type": "token",
            "expression": "Observation.value.ofType(CodeableConcept)"
        });
        let issues = definitions.add(&mine);
        assert_eq!(issues.len(), 1, "{issues:?}");
        assert!(definitions.search_parameter("Observation", "risk").is_some());
        assert!(definitions.search_parameter("Patient", "risk").is_none());
        let others = Definitions::r4();
        assert!(others.search_parameter("Observation", "risk").is_none(), "a copy is its own");
        for wrong in [
            json!({"resourceType": "Patient"}),
            json!({"resourceType": "SearchParameter", "code": "a", "base": ["Patient"]}),
            json!({"resourceType": "SearchParameter", "code": "a", "base": ["Patient"],
                "type": "token", "expression": "Patient.name.("}),
        ] {
            assert!(definitions.add(&wrong).iter().any(Issue::is_error), "{wrong}");
        }
    }
}
