-- The database's roles, rights and extensions: the one source for the chart and for devstack.
--
-- Run by a superuser INSIDE the target database; may run again at any time, also at once from several sessions.
-- Passwords come from the session, e.g. PGOPTIONS="-c fashionistar.app_a_password=…" (write a space or a backslash
-- in a password as "\ " and "\\" there). A login role whose password is not given keeps the one it has.
--
--   fashionistar   owns every object; nobody logs in as it
--   app_a, app_b   log in, and act as fashionistar from the first statement on (also behind a pooler); one is in use
--                  while the other gets its next password: rotation without a failed request
--
-- A role's settings are not inherited by its members, so the limits below are set on each login role.
-- Plain SQL without psql commands: any driver can send this file as one string.
DO $roles$
DECLARE
    login text;
    secret text;
    extension text;
BEGIN
    -- Roles belong to the whole server: two databases made at once must not both create them.
    LOCK TABLE pg_catalog.pg_authid IN SHARE ROW EXCLUSIVE MODE;

    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'fashionistar') THEN
        CREATE ROLE fashionistar NOLOGIN;
    END IF;

    FOREACH login IN ARRAY ARRAY['app_a', 'app_b'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = login) THEN
            EXECUTE format('CREATE ROLE %I LOGIN IN ROLE fashionistar', login);
        END IF;
        secret := nullif(current_setting(format('fashionistar.%s_password', login), true), '');
        IF secret IS NOT NULL THEN
            EXECUTE format('ALTER ROLE %I PASSWORD %L', login, secret);
        END IF;
        EXECUTE format('ALTER ROLE %I SET role = %L', login, 'fashionistar');
        EXECUTE format('ALTER ROLE %I SET lock_timeout = %L', login, '5s');
        EXECUTE format('ALTER ROLE %I SET statement_timeout = %L', login, '30s');
        EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = %L', login, '30s');
    END LOOP;

    EXECUTE format('ALTER DATABASE %I OWNER TO fashionistar', current_database());
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    GRANT ALL ON SCHEMA public TO fashionistar;

    FOREACH extension IN ARRAY ARRAY['vector', 'pg_trgm', 'unaccent'] LOOP
        EXECUTE format('CREATE EXTENSION IF NOT EXISTS %I', extension);
    END LOOP;
END
$roles$;
