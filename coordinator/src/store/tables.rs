//! The tables, as they came to be.

/// Statements that lead from each version of the tables to the next; never changed, only added to.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE tokens (
        id          TEXT PRIMARY KEY,
        secret_hash BLOB NOT NULL,
        uses_left   BIGINT NOT NULL CHECK (uses_left >= 0),
        expires     BIGINT NOT NULL,
        labels      TEXT NOT NULL,
        revoked     BOOLEAN NOT NULL DEFAULT FALSE,
        created     BIGINT NOT NULL,
        created_by  TEXT NOT NULL
    );
    CREATE TABLE hosts (
        id       TEXT PRIMARY KEY,
        key      BLOB NOT NULL,
        name     TEXT NOT NULL,
        envelope BLOB NOT NULL,
        issued   BIGINT NOT NULL,
        token    TEXT NOT NULL REFERENCES tokens (id)
    );
    CREATE TABLE releases (
        service  TEXT NOT NULL,
        version  TEXT NOT NULL,
        id       TEXT NOT NULL,
        envelope BLOB NOT NULL,
        at       BIGINT NOT NULL,
        PRIMARY KEY (service, version)
    );
    CREATE TABLE audit (
        seq     BIGINT PRIMARY KEY,
        at      BIGINT NOT NULL,
        actor   TEXT NOT NULL,
        action  TEXT NOT NULL,
        subject TEXT NOT NULL,
        detail  TEXT NOT NULL,
        prev    BLOB NOT NULL,
        hash    BLOB NOT NULL
    );
    CREATE TABLE audit_head (
        one    INTEGER PRIMARY KEY CHECK (one = 1),
        length BIGINT NOT NULL,
        hash   BLOB NOT NULL
    );
    CREATE TRIGGER audit_is_never_updated BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
    CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
",
    // The token that a host joined with is lost where the hosts were recovered from the fleet.
    "
    CREATE TABLE hosts_2 (
        id       TEXT PRIMARY KEY,
        key      BLOB NOT NULL,
        name     TEXT NOT NULL,
        envelope BLOB NOT NULL,
        issued   BIGINT NOT NULL,
        token    TEXT REFERENCES tokens (id)
    );
    INSERT INTO hosts_2 SELECT id, key, name, envelope, issued, token FROM hosts;
    DROP TABLE hosts;
    ALTER TABLE hosts_2 RENAME TO hosts;
",
    "
    CREATE TABLE events (
        seq     BIGINT PRIMARY KEY,
        at      BIGINT NOT NULL,
        kind    TEXT NOT NULL,
        service TEXT,
        env     TEXT,
        rollout TEXT,
        host    TEXT,
        text    TEXT NOT NULL,
        detail  TEXT NOT NULL
    );
    CREATE INDEX events_of_scope ON events (service, env, seq);
    CREATE INDEX events_of_rollout ON events (rollout, seq);
    CREATE INDEX events_of_host ON events (host, seq);
",
    "
    CREATE TABLE access (
        id          TEXT PRIMARY KEY,
        kind        TEXT NOT NULL,
        secret_hash BLOB NOT NULL,
        role        TEXT NOT NULL,
        key         TEXT NOT NULL,
        owner       TEXT NOT NULL,
        created     BIGINT NOT NULL,
        expires     BIGINT NOT NULL,
        session_s   BIGINT NOT NULL
    );
    CREATE INDEX access_by_age ON access (created);
",
    // The number of the newest event stays when the event itself has gone.
    "
    CREATE TABLE events_head (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        seq BIGINT NOT NULL
    );
    INSERT INTO events_head (one, seq) SELECT 1, COALESCE(MAX(seq), 0) FROM events;
    CREATE INDEX events_of_service ON events (service, seq);
    CREATE INDEX events_of_env ON events (env, seq);
    CREATE TABLE rollouts (
        seq          INTEGER PRIMARY KEY,
        id           TEXT NOT NULL UNIQUE,
        service      TEXT NOT NULL,
        env          TEXT NOT NULL,
        epoch        BIGINT NOT NULL,
        direction    TEXT NOT NULL,
        adopt        BOOLEAN NOT NULL,
        from_version TEXT,
        from_release TEXT,
        to_version   TEXT NOT NULL,
        to_release   TEXT NOT NULL,
        author       TEXT NOT NULL,
        reason       TEXT NOT NULL,
        created      BIGINT NOT NULL,
        hosts        BIGINT NOT NULL,
        commit_id    TEXT,
        branch       TEXT,
        commit_time  BIGINT,
        first_seen   BIGINT NOT NULL,
        started      BIGINT,
        ended        BIGINT,
        outcome      TEXT,
        began        BOOLEAN NOT NULL,
        back         BIGINT,
        counts       TEXT NOT NULL,
        sampled      BOOLEAN NOT NULL,
        open         BOOLEAN NOT NULL,
        memory       TEXT NOT NULL
    );
    CREATE INDEX rollouts_of_scope ON rollouts (service, env, seq);
    CREATE INDEX rollouts_of_service ON rollouts (service, seq);
    CREATE INDEX rollouts_of_env ON rollouts (env, seq);
    CREATE INDEX rollouts_ended ON rollouts (service, env, ended);
    CREATE INDEX rollouts_open ON rollouts (seq) WHERE open;
    CREATE INDEX rollouts_sampled ON rollouts (ended) WHERE sampled;
    CREATE TABLE samples (
        rollout BIGINT NOT NULL REFERENCES rollouts (seq),
        n       BIGINT NOT NULL,
        at      BIGINT NOT NULL,
        counts  TEXT NOT NULL,
        PRIMARY KEY (rollout, n)
    ) WITHOUT ROWID;
    CREATE TABLE chronicle (
        one    INTEGER PRIMARY KEY CHECK (one = 1),
        memory TEXT NOT NULL
    );
",
    "
    CREATE INDEX audit_of_actor ON audit (actor, seq);
    CREATE INDEX audit_of_action ON audit (action, seq);
    CREATE INDEX audit_of_subject ON audit (subject, seq);
",
    "
    CREATE TABLE receivers (
        name      TEXT PRIMARY KEY,
        kind      TEXT NOT NULL,
        cursor    BIGINT NOT NULL,
        delivered BIGINT NOT NULL DEFAULT 0,
        dropped   BIGINT NOT NULL DEFAULT 0,
        last      BIGINT,
        fault     TEXT
    );
    CREATE TABLE deliveries (
        id       TEXT PRIMARY KEY,
        receiver TEXT NOT NULL REFERENCES receivers (name) ON DELETE CASCADE,
        lane     TEXT NOT NULL,
        first    BIGINT NOT NULL,
        events   TEXT NOT NULL,
        newest   BIGINT NOT NULL,
        attempts BIGINT NOT NULL,
        next_try BIGINT NOT NULL
    );
    CREATE INDEX deliveries_of_receiver ON deliveries (receiver, first);
",
    "
    CREATE TABLE turns (
        number      INTEGER PRIMARY KEY,
        who         TEXT NOT NULL,
        key         TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        at          BIGINT NOT NULL,
        status      BIGINT,
        body        BLOB,
        UNIQUE (who, key)
    );
    CREATE INDEX turns_by_age ON turns (at);
",
    "CREATE INDEX events_of_kind ON events (kind, seq);",
];
