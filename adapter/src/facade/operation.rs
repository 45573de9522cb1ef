//! Operations: <https://hl7.org/fhir/R4/operations.html>.

use lumbar_fhir::{Issue, IssueType, Json};

use super::bulk::Level;
use super::{Error, Facade, Preferences, Reply};
use crate::security::Caller;

/// An operation that is offered.
pub(super) struct Operation {
    /// Name without `$`.
    pub(super) name: &'static str,
    /// Canonical of its definition.
    pub(super) definition: &'static str,
    /// Whether it may be invoked on the base.
    pub(super) system: bool,
    /// Resource types on which it may be invoked; `Resource` stands for all.
    pub(super) resource_types: &'static [&'static str],
}

impl Operation {
    /// Whether it may be invoked on a resource type.
    pub(super) fn is_of(&self, resource_type: &str) -> bool {
        self.resource_types.iter().any(|of| *of == resource_type || *of == "Resource")
    }
}

macro_rules! operations {
    ($($name:literal $definition:expr, $system:literal $types:tt;)*) => {
        &[$(Operation {
            name: $name,
            definition: $definition,
            system: $system,
            resource_types: &$types,
        }),*]
    };
}

macro_rules! r4 {
    ($id:literal) => {
        concat!("http://hl7.org/fhir/OperationDefinition/", $id)
    };
}

macro_rules! ours {
    ($id:literal) => {
        concat!("https://lumbar.example/fhir/OperationDefinition/", $id)
    };
}

macro_rules! bulk {
    ($id:literal) => {
        concat!("http://hl7.org/fhir/uv/bulkdata/OperationDefinition/", $id)
    };
}

macro_rules! sdc {
    ($id:literal) => {
        concat!("http://hl7.org/fhir/uv/sdc/OperationDefinition/", $id)
    };
}

/// Every operation that is offered: its name, its definition, whether it may be invoked on the
/// base, and the types on which it may be.
pub(super) const OPERATIONS: &[Operation] = operations! {
    "assemble" sdc!("Questionnaire-assemble"), false ["Questionnaire"];
    "expand" r4!("ValueSet-expand"), false ["ValueSet"];
    "export" bulk!("export"), true [];
    "export" bulk!("group-export"), false ["Group"];
    "export" bulk!("patient-export"), false ["Patient"];
    "extract" sdc!("QuestionnaireResponse-extract"), false ["QuestionnaireResponse"];
    "fhirpath" ours!("fhirpath"), true [];
    "import" ours!("import"), true [];
    "json-schema" ours!("StructureDefinition-json-schema"), false ["StructureDefinition"];
    "lookup" r4!("CodeSystem-lookup"), false ["CodeSystem"];
    "next-question" sdc!("Questionnaire-next-question"), false ["Questionnaire"];
    "populate" sdc!("Questionnaire-populate"), false ["Questionnaire"];
    "process-response" sdc!("Questionnaire-process-response"), false ["Questionnaire"];
    "questionnaire-package" ours!("Questionnaire-questionnaire-package"), false ["Questionnaire"];
    "reindex" ours!("reindex"), true [];
    "replay" ours!("Subscription-replay"), false ["Subscription"];
    "status" ours!("Subscription-status"), false ["Subscription"];
    "stratify" ours!("ServiceRequest-stratify"), false ["ServiceRequest"];
    "subsumes" r4!("CodeSystem-subsumes"), false ["CodeSystem"];
    "translate" r4!("ConceptMap-translate"), false ["ConceptMap"];
    "validate" r4!("Resource-validate"), true ["Resource"];
    "validate-code" r4!("CodeSystem-validate-code"), false ["CodeSystem"];
    "validate-code" r4!("ValueSet-validate-code"), false ["ValueSet"];
};

/// One invocation.
pub(super) struct Call<'a> {
    /// Name without `$`.
    pub(super) name: &'a str,
    /// `None` when it is invoked on the base.
    pub(super) resource_type: Option<&'a str>,
    /// `None` when it is invoked on a type or on the base.
    pub(super) id: Option<&'a str>,
    /// The query's parameters.
    pub(super) parameters: &'a [(String, String)],
    /// The body.
    pub(super) body: Option<&'a Json>,
    /// Whether the method was POST.
    pub(super) post: bool,
    /// What the client prefers.
    pub(super) prefer: Preferences,
    /// Who asks.
    pub(super) caller: &'a Caller,
}

impl Facade {
    pub(super) async fn operation(&self, call: Call<'_>) -> Result<Reply, Error> {
        match (call.resource_type, call.id, call.name) {
            (Some("CodeSystem"), None, "lookup") => self.look_up(&call).await,
            (Some("CodeSystem"), _, "subsumes") => self.subsumes(&call).await,
            (Some("CodeSystem"), _, "validate-code") => self.validate_in_system(&call).await,
            (Some("ConceptMap"), _, "translate") => self.translate(&call).await,
            (Some("Group"), Some(id), "export") => {
                self.export(&call, Level::Group(id.to_owned())).await
            }
            (Some("Group"), None, "export") => Err(Error::Unparseable(vec![Issue::error(
                IssueType::Required,
                "An export of a group names it, as in Group/g1/$export.",
            )])),
            (Some("Patient"), None, "export") => self.export(&call, Level::Patient).await,
            (Some("Questionnaire"), _, "assemble") => self.assemble(&call).await,
            (Some("Questionnaire"), None, "next-question") => self.next_question(&call).await,
            (Some("Questionnaire"), _, "populate") => self.populate(&call).await,
            (Some("Questionnaire"), _, "process-response") => self.process_response(&call).await,
            (Some("Questionnaire"), _, "questionnaire-package") => {
                self.questionnaire_package(&call).await
            }
            (Some("QuestionnaireResponse"), _, "extract") => self.extract(&call).await,
            (Some("ServiceRequest"), _, "stratify") => self.stratify(&call).await,
            (Some("StructureDefinition"), _, "json-schema") => self.json_schema(&call).await,
            (Some("Subscription"), _, "replay" | "status") => self.subscription(&call).await,
            (Some("ValueSet"), _, "expand") => self.expand(&call).await,
            (Some("ValueSet"), _, "validate-code") => self.validate_in_set(&call).await,
            (_, _, "validate") => self.validate(&call).await,
            (None, None, "export") => self.export(&call, Level::System).await,
            (None, None, "fhirpath") => self.fhirpath(&call).await,
            (None, None, "import") => self.import(&call).await,
            (None, None, "reindex") => self.progress().await,
            _ => Err(Error::NotFound(Issue::error(
                IssueType::NotSupported,
                "There is no such operation here; /fhir/metadata lists those there are.",
            ))),
        }
    }
}
