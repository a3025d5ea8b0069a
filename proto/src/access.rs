//! What lets people and scripts in by HTTPS: links, sessions, tokens.

use serde::{Deserialize, Serialize};

use crate::id::Name;
use crate::statement::UnixTime;

/// What lets somebody in by HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessKind {
    /// Opened once, in a browser: a session comes of it.
    Link,
    Session,
    /// For scripts.
    Token,
}

/// What one may do by HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessRole {
    /// Look.
    Viewer,
    /// Have the coordinator make the fleet more careful (R3), where the key behind it may deploy.
    Operator,
}

impl AccessKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Session => "session",
            Self::Token => "token",
        }
    }

    /// The kind with this name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Link, Self::Session, Self::Token].into_iter().find(|kind| kind.name() == name)
    }
}

impl AccessRole {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }

    /// The role with this name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Viewer, Self::Operator].into_iter().find(|role| role.name() == name)
    }
}

/// A link, a session or a token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessReport {
    pub id: String,
    pub kind: AccessKind,
    pub role: AccessRole,
    /// Whose key vouched for it.
    pub owner: Name,
    pub created: UnixTime,
    pub expires: UnixTime,
}
