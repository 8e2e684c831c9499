//! The variables of expressions, and their types.

use std::collections::BTreeMap;

/// The type of a value, as far as it is known before a request exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// Any: it is known with the request.
    Dyn,
    Bool,
    Int,
    UInt,
    Double,
    String,
    Bytes,
    Null,
    Timestamp,
    Duration,
    /// An address.
    Ip,
    /// A network.
    Cidr,
    List(Box<Type>),
    Map(Box<Type>),
    /// A variable with fields.
    Variable(&'static str),
}

impl Type {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Dyn => "dyn",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::UInt => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Null => "null",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::Ip => "net.IP",
            Self::Cidr => "net.CIDR",
            Self::List(_) => "list",
            Self::Map(_) | Self::Variable(_) => "map",
        }
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::UInt | Self::Double)
    }

    /// Whether a value of the type can be one of the other: of the same, of a number, or not known.
    pub(crate) fn may_equal(&self, other: &Self) -> bool {
        let unknown = |of: &Self| matches!(of, Self::Dyn | Self::Null);
        unknown(self) || unknown(other) || self.name() == other.name() || self.is_number() && other.is_number()
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident $variable:literal $name:literal $type:expr;)*) => {
        /// A field of a variable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field {
            $($(#[$doc])* $field,)*
        }

        impl Field {
            /// Every field.
            pub const ALL: &[Self] = &[$(Self::$field,)*];

            /// The variable that it is a field of.
            #[must_use]
            pub const fn variable(self) -> &'static str {
                match self { $(Self::$field => $variable,)* }
            }

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$field => $name,)* }
            }

            pub(crate) fn type_(self) -> Type {
                match self { $(Self::$field => $type,)* }
            }
        }
    };
}

fn of_strings() -> Type {
    Type::Map(Box::new(Type::String))
}

fn strings() -> Type {
    Type::List(Box::new(Type::String))
}

fields! {
    /// The method, in upper case.
    Method "request" "method" Type::String;
    /// The path below the base path, as rules are matched with it.
    Path "request" "path" Type::String;
    /// The host, in lower case, without port.
    Host "request" "host" Type::String;
    /// `http` or `https`.
    Scheme "request" "scheme" Type::String;
    /// The time at which the request is checked.
    Time "request" "time" Type::Timestamp;
    /// Headers, with names in lower case; several values are joined with `, `.
    Headers "request" "headers" of_strings();
    /// Query parameters, decoded, each with its values.
    Query "request" "query" Type::Map(Box::new(strings()));
    /// The address of the client.
    Address "source" "address" Type::String;
    /// The kind of authorizer that identified the caller.
    IdentityKind "identity" "kind" Type::String;
    /// The caller.
    IdentityId "identity" "id" Type::String;
    /// The scopes of the caller.
    IdentityScopes "identity" "scopes" strings();
    /// The claims of the caller's token, or its other attributes.
    IdentityClaims "identity" "claims" Type::Map(Box::new(Type::Dyn));
    /// The subject of the client's certificate.
    CertificateSubject "certificate" "subject" Type::String;
    /// The issuer.
    CertificateIssuer "certificate" "issuer" Type::String;
    /// The serial number.
    CertificateSerial "certificate" "serial" Type::String;
    /// The fingerprint.
    CertificateFingerprint "certificate" "fingerprint" Type::String;
    /// The first DNS name of the certificate.
    CertificateDns "certificate" "dns" Type::String;
    /// The first URI of the certificate.
    CertificateUri "certificate" "uri" Type::String;
    /// `namespace/name` of the ApiKey.
    KeyId "key" "id" Type::String;
    /// The customer of the ApiKey.
    KeyCustomer "key" "customer" Type::String;
    /// `namespace/name` of the UsagePlan that admits the key.
    KeyPlan "key" "plan" Type::String;
    /// The name of the Stage.
    StageName "stage" "name" Type::String;
    /// The namespace of the Stage.
    StageNamespace "stage" "namespace" Type::String;
    /// Path parameters. It is a variable, and has no fixed fields.
    Params "params" "" of_strings();
}

/// The type of a variable.
pub(crate) fn variable(name: &str) -> Option<Type> {
    let field = Field::ALL.iter().find(|field| field.variable() == name)?;
    Some(if field.name().is_empty() { field.type_() } else { Type::Variable(field.variable()) })
}

/// A field of a variable.
pub(crate) fn field(variable: &str, name: &str) -> Option<Field> {
    Field::ALL.iter().copied().find(|field| field.variable() == variable && field.name() == name)
}

/// The names of the variables, or of the fields of one.
pub(crate) fn names(of: Option<&str>) -> String {
    let mut names: BTreeMap<&str, ()> = BTreeMap::new();
    for field in Field::ALL {
        match of {
            None => drop(names.insert(field.variable(), ())),
            Some(variable) if variable == field.variable() => drop(names.insert(field.name(), ())),
            Some(_) => {}
        }
    }
    names.into_keys().collect::<Vec<_>>().join(", ")
}
