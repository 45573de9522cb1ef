//! Types and their elements: <https://hl7.org/fhir/R4/elementdefinition.html>.

use super::{Names, rows};

/// What a type is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A resource, abstract ones among them.
    Resource,
    /// A data type with elements.
    Complex,
    /// A data type with a value.
    Primitive,
    /// An element that has children of its own, for example `Patient.contact`.
    Backbone,
    /// An interface that several resources share.
    Logical,
}

/// The type of FHIRPath that a FHIR type's value has:
/// <https://hl7.org/fhir/R4/fhirpath.html#types>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are FHIRPath's")]
pub enum System {
    None,
    Boolean,
    String,
    Integer,
    Decimal,
    Date,
    DateTime,
    Time,
    Quantity,
}

/// A data type, resource type or the type of a backbone element.
#[derive(Clone, Debug)]
pub struct Type {
    /// Its name; for a backbone element the element's path.
    pub name: &'static str,
    /// What it is for.
    pub kind: Kind,
    /// Whether only types derived from it have instances.
    pub is_abstract: bool,
    /// What its value is in FHIRPath.
    pub system: System,
    /// Its own elements and the inherited ones that it changes, in order.
    pub elements: Vec<Element>,
    /// The invariants that it adds.
    pub invariants: Vec<Invariant>,
    /// Its number among all types.
    pub(crate) index: u16,
    pub(super) base: Option<u16>,
}

/// One element of a type.
#[derive(Clone, Debug)]
pub struct Element {
    /// Path as in the standard, for example `Observation.value[x]`.
    pub path: &'static str,
    /// Last part of the path without `[x]`.
    pub name: &'static str,
    /// Whether the JSON member's name ends with the type's.
    pub is_choice: bool,
    /// Least number of occurrences.
    pub min: u32,
    /// Largest number of occurrences; `None` is no limit.
    pub max: Option<u32>,
    /// The types that it may have.
    pub types: Vec<ElementType>,
    /// Whether it belongs to a summary.
    pub is_summary: bool,
    /// Whether it changes the meaning of what contains it.
    pub is_modifier: bool,
    /// The value set for its codes.
    pub binding: Option<Binding>,
    /// What the text of a primitive's value must match, for the element `value` of a primitive.
    pub regex: Option<&'static str>,
    /// The invariants on it, beyond those of its type.
    pub invariants: Vec<Invariant>,
}

/// One type that an element may have.
#[derive(Clone, Copy, Debug)]
pub struct ElementType {
    /// Name of a FHIR type.
    pub code: &'static str,
    targets: &'static str,
    profiles: &'static str,
    pub(super) content: Option<u16>,
}

/// Where an element's codes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// `required`, `extensible`, `preferred` or `example`.
    pub strength: &'static str,
    /// Canonical of the value set, maybe with a version; empty if only described in words.
    pub value_set: &'static str,
}

/// A rule that a FHIRPath expression states.
#[derive(Clone, Copy, Debug)]
pub struct Invariant {
    /// Its key, for example `obs-7`.
    pub key: &'static str,
    /// Whether breaking it is an error; otherwise it is a warning.
    pub is_error: bool,
    /// The expression that must be true.
    pub expression: &'static str,
}

impl Type {
    /// Its own element of this name.
    pub(super) fn element(&self, name: &str) -> Option<&Element> {
        self.elements.iter().find(|element| element.name == name)
    }

    pub(super) fn choices(&self) -> impl Iterator<Item = &Element> {
        self.elements.iter().filter(|element| element.is_choice)
    }
}

impl Element {
    /// The type that this element has under the JSON member `name`, if it can have that name.
    pub fn member(&self, name: &str) -> Option<&ElementType> {
        if !self.is_choice {
            return self.types.first().filter(|_| self.name == name);
        }
        let rest = name.strip_prefix(self.name)?;
        let initial = rest.chars().next().filter(char::is_ascii_uppercase)?;
        self.types.iter().find(|kind| {
            kind.code.get(1..) == rest.get(1..)
                && kind.code.starts_with([initial, initial.to_ascii_lowercase()])
        })
    }
}

impl ElementType {
    /// The resource types that a reference or canonical may point to; none means any.
    pub fn targets(&self) -> impl Iterator<Item = &'static str> {
        self.targets.split('|').filter(|target| !target.is_empty())
    }

    /// Names of the profiles of the type, for example `SimpleQuantity`.
    pub fn profiles(&self) -> impl Iterator<Item = &'static str> {
        self.profiles.split('|').filter(|profile| !profile.is_empty())
    }

    fn read(text: &'static str) -> ElementType {
        let part = |open: char, close: char| {
            let (_, rest) = text.split_once(open)?;
            rest.split_once(close).map(|(inner, _)| inner)
        };
        let code = text.split(['(', '{']).next().unwrap_or(text);
        let code = match code.split_once('=') {
            Some((_, fhir)) => fhir,
            None => code.strip_prefix("System.").unwrap_or(code),
        };
        ElementType {
            code,
            targets: part('(', ')').unwrap_or_default(),
            profiles: part('{', '}').unwrap_or_default(),
            content: None,
        }
    }
}

/// All types by index and by name.
#[derive(Clone, Debug)]
pub(super) struct Types {
    types: Vec<Type>,
    names: Names,
}

impl Types {
    pub(super) fn read(
        types: &'static str,
        elements: &'static str,
        invariants: &'static str,
        corrections: &'static str,
    ) -> Types {
        let mut all = Types { types: Vec::with_capacity(900), names: Names::with_capacity(900) };
        for [name, kind, is_abstract, _] in rows(types) {
            let kind = match kind {
                "resource" => Kind::Resource,
                "complex-type" => Kind::Complex,
                "primitive-type" => Kind::Primitive,
                _ => Kind::Logical,
            };
            let index = all.insert(name, kind, None);
            if let Some(kind) = all.types.get_mut(usize::from(index)) {
                kind.is_abstract = !is_abstract.is_empty();
            }
        }
        for (kind, [_, _, _, base]) in all.types.iter_mut().zip(rows(types)) {
            kind.base = all.names.get(base).copied();
        }
        for index in 0..all.types.len() {
            let system = all.types.get(index).map(|kind| all.system(kind));
            if let (Some(kind), Some(system)) = (all.types.get_mut(index), system) {
                kind.system = system;
            }
        }
        all.read_elements(elements);
        all.read_invariants(invariants, corrections);
        all
    }

    fn insert(&mut self, name: &'static str, kind: Kind, base: Option<u16>) -> u16 {
        let index = u16::try_from(self.types.len()).unwrap_or(u16::MAX);
        self.types.push(Type {
            name,
            kind,
            is_abstract: false,
            system: System::None,
            elements: Vec::new(),
            invariants: Vec::new(),
            index,
            base,
        });
        self.names.insert(name, index);
        index
    }

    /// The system type that the nearest type of the lineage names.
    fn system(&self, kind: &Type) -> System {
        let named = |kind: &Type| match kind.name {
            "boolean" => Some(System::Boolean),
            "integer" => Some(System::Integer),
            "decimal" => Some(System::Decimal),
            "date" => Some(System::Date),
            "dateTime" | "instant" => Some(System::DateTime),
            "time" => Some(System::Time),
            "Quantity" => Some(System::Quantity),
            _ => None,
        };
        self.lineage(kind).find_map(named).unwrap_or(match kind.kind {
            Kind::Primitive => System::String,
            _ => System::None,
        })
    }

    /// Rows come in the order of the standard: an element before its children.
    fn read_elements(&mut self, table: &'static str) {
        let mut contents = Vec::new();
        for [path, min, max, types, flags, binding, regex] in rows(table) {
            let Some((parent, last)) = path.rsplit_once('.') else { continue };
            let parent = self.backbone(parent);
            let name = last.strip_suffix("[x]").unwrap_or(last);
            let kinds: Vec<ElementType> =
                types.split(' ').filter(|kind| !kind.is_empty()).map(ElementType::read).collect();
            let binding =
                binding.split_once(' ').or((!binding.is_empty()).then_some((binding, "")));
            let element = Element {
                path,
                name,
                is_choice: name.len() < last.len(),
                min: min.parse().unwrap_or(0),
                max: max.parse().ok(),
                types: kinds,
                is_summary: flags.contains('s'),
                is_modifier: flags.contains('m'),
                binding: binding.map(|(strength, value_set)| Binding { strength, value_set }),
                regex: (!regex.is_empty()).then_some(regex),
                invariants: Vec::new(),
            };
            if let Some(parent_type) = self.types.get_mut(usize::from(parent)) {
                contents.push((parent, parent_type.elements.len()));
                parent_type.elements.push(element);
            }
        }
        for (parent, index) in contents {
            self.link(parent, index);
        }
    }

    /// The type whose elements have the path `parent.…`; that of a backbone is made at its first
    /// child.
    fn backbone(&mut self, parent: &'static str) -> u16 {
        if let Some(index) = self.names.get(parent) {
            return *index;
        }
        let code = parent
            .rsplit_once('.')
            .and_then(|(of, name)| self.find(of)?.element(name)?.types.first())
            .map_or("Element", |kind| kind.code);
        let base = self.names.get(code).copied();
        self.insert(parent, Kind::Backbone, base)
    }

    /// Finds the types of an element's content, once all types are known.
    fn link(&mut self, parent: u16, index: usize) {
        let Some(element) =
            self.types.get(usize::from(parent)).and_then(|kind| kind.elements.get(index))
        else {
            return;
        };
        let own = self.names.get(element.path).copied();
        let linked: Vec<ElementType> = element
            .types
            .iter()
            .map(|kind| match kind.code.strip_prefix('#') {
                // A content reference: the same content as another element's.
                Some(path) => {
                    let content = self.names.get(path).copied();
                    let base = content.and_then(|content| self.get(self.get(content)?.base?));
                    let code = base.map_or("BackboneElement", |base| base.name);
                    ElementType { code, content, ..*kind }
                }
                None => {
                    let content = own.or_else(|| self.names.get(kind.code).copied());
                    ElementType { content, ..*kind }
                }
            })
            .collect();
        let parent = self.types.get_mut(usize::from(parent));
        if let Some(element) = parent.and_then(|kind| kind.elements.get_mut(index)) {
            element.types = linked;
        }
    }

    /// A correction without an expression takes the invariant out.
    fn read_invariants(&mut self, table: &'static str, corrections: &'static str) {
        let corrections: Vec<[&str; 3]> = rows(corrections).collect();
        for [path, key, severity, published] in rows(table) {
            let correction = corrections.iter().find(|[of, known, _]| (*of, *known) == (path, key));
            let expression = correction.map_or(published, |[.., expression]| expression);
            if expression.is_empty() {
                continue;
            }
            let invariant = Invariant { key, is_error: severity == "error", expression };
            if let Some(invariants) = self.invariants_of(path) {
                invariants.push(invariant);
            }
        }
    }

    fn invariants_of(&mut self, path: &str) -> Option<&mut Vec<Invariant>> {
        let Some((parent, last)) = path.rsplit_once('.') else {
            let index = usize::from(*self.names.get(path)?);
            return self.types.get_mut(index).map(|kind| &mut kind.invariants);
        };
        let name = last.strip_suffix("[x]").unwrap_or(last);
        let parent = usize::from(*self.names.get(parent)?);
        let elements = &mut self.types.get_mut(parent)?.elements;
        elements.iter_mut().find(|element| element.name == name).map(|e| &mut e.invariants)
    }

    pub(super) fn get(&self, index: u16) -> Option<&Type> {
        self.types.get(usize::from(index))
    }

    pub(super) fn find(&self, name: &str) -> Option<&Type> {
        self.get(*self.names.get(name)?)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Type> {
        self.types.iter()
    }

    /// The type, its base, that one's base and so on.
    pub(super) fn lineage<'a>(&'a self, kind: &'a Type) -> impl Iterator<Item = &'a Type> {
        std::iter::successors(Some(kind), |kind| self.get(kind.base?))
    }
}
