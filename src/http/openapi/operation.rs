//! What the document says of a route.

pub(in crate::http) use http::Method;
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::words::{BAD_BODY, CHANNEL, INTERNAL, RATE_LIMITED, TOO_LARGE, UNAUTHENTICATED, UNAVAILABLE, USER};
use super::{Components, content};
use crate::error::CODES;
use crate::protocol::schema::Schemas;

/// What a method of a path does, for whom, and what it answers.
pub(in crate::http) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    id: &'static str,
    summary: &'static str,
    detail: &'static str,
    security: Security,
    parameters: Vec<Parameter>,
    body: Option<(OfSchema, bool)>,
    answers: Vec<(u16, &'static str, Option<OfSchema>)>,
    refusals: Vec<Refusal>,
}

pub(super) type OfSchema = fn(&mut Schemas) -> Value;

/// Who may ask.
enum Security {
    Anybody,
    Both,
    SignedIn,
}

/// Something beside the body that a request bears; by its name among the components.
#[derive(Clone)]
pub(in crate::http) struct Parameter {
    pub(super) component: &'static str,
    pub(super) name: &'static str,
    pub(super) place: &'static str,
    pub(super) detail: &'static str,
    pub(super) schema: OfSchema,
}

/// Why a request may be refused; by its name among the components.
pub(in crate::http) struct Refusal {
    pub(super) component: &'static str,
    pub(super) detail: &'static str,
    pub(super) codes: &'static [&'static str],
}

impl Operation {
    /// For anybody. What any request may be refused with goes without saying, unless another refusal of its status is
    /// named.
    pub(in crate::http) fn open(method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let parameters = [("{name}", CHANNEL), ("{user}", USER)].into_iter();
        let parameters = parameters.filter(|(place, _)| path.contains(place)).map(|(_, parameter)| parameter).collect();
        Self {
            method,
            path,
            id,
            summary,
            detail: "",
            security: Security::Anybody,
            parameters,
            body: None,
            answers: Vec::new(),
            refusals: vec![RATE_LIMITED, UNAVAILABLE],
        }
    }

    /// For users with an access token.
    pub(in crate::http) fn signed_in(
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Self {
        let operation = Self { security: Security::SignedIn, ..Self::open(method, path, id, summary) };
        operation.refuses([UNAUTHENTICATED, INTERNAL])
    }

    /// For users and others.
    pub(in crate::http) fn or_not(self) -> Self {
        Self { security: Security::Both, ..self }
    }

    pub(in crate::http) fn detail(self, detail: &'static str) -> Self {
        Self { detail, ..self }
    }

    pub(in crate::http) fn with<const N: usize>(mut self, parameters: [Parameter; N]) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// Bears a body.
    pub(in crate::http) fn takes<T: JsonSchema>(self) -> Self {
        Self { body: Some((|schemas| schemas.asked::<T>(), true)), ..self.refuses([BAD_BODY, TOO_LARGE]) }
    }

    /// Bears a body, or none.
    pub(in crate::http) fn may_take<T: JsonSchema>(self) -> Self {
        Self { body: Some((|schemas| schemas.asked::<T>(), false)), ..self.refuses([BAD_BODY, TOO_LARGE]) }
    }

    pub(in crate::http) fn gives<T: JsonSchema>(mut self, status: u16, what: &'static str) -> Self {
        self.answers.push((status, what, Some(|schemas| schemas.told::<T>())));
        self
    }

    /// Answers without a body.
    pub(in crate::http) fn ends(mut self, status: u16, what: &'static str) -> Self {
        self.answers.push((status, what, None));
        self
    }

    /// Each in place of the one that has the same status.
    pub(in crate::http) fn refuses<const N: usize>(mut self, refusals: [Refusal; N]) -> Self {
        self.refusals.retain(|known| refusals.iter().all(|refusal| refusal.status() != known.status()));
        self.refusals.extend(refusals);
        self
    }

    pub(super) fn described(&self, tag: &str, components: &mut Components) -> Value {
        let mut operation = json!({"operationId": self.id, "tags": [tag], "summary": self.summary});
        if !self.detail.is_empty() {
            operation["description"] = self.detail.into();
        }
        match self.security {
            Security::Anybody => operation["security"] = json!([]),
            Security::Both => operation["security"] = json!([{"bearer": []}, {}]),
            Security::SignedIn => {}
        }
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.iter().map(|parameter| components.parameter(parameter)).collect();
        }
        if let Some((schema, required)) = self.body {
            operation["requestBody"] =
                json!({"required": required, "content": content(schema(&mut components.schemas))});
        }
        for (status, what, schema) in &self.answers {
            operation["responses"][status.to_string()] = match schema {
                Some(schema) => json!({"description": what, "content": content(schema(&mut components.schemas))}),
                None => json!({ "description": what }),
            };
        }
        for refusal in &self.refusals {
            operation["responses"][refusal.status().to_string()] = components.refusal(refusal);
        }
        operation
    }
}

impl Refusal {
    /// The one of all its codes.
    pub(super) fn status(&self) -> u16 {
        let status = |code: &&str| CODES.iter().find(|row| row.name == *code).map(|row| row.status.as_u16());
        let mut all = self.codes.iter().map(status);
        let first = all.next().flatten().unwrap_or_else(|| panic!("{:?} are no codes", self.codes));
        assert!(all.all(|other| other == Some(first)), "{:?} are not of one status", self.codes);
        first
    }
}
