# syntax=docker/dockerfile:1
#
# The server as a container. `compose.yaml` runs it with PostgreSQL and Redis.

ARG RUST_VERSION=1.95

# Both images are of the same Debian: the binary is linked against its libc.
FROM rust:${RUST_VERSION}-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY actors actors
COPY benches benches
COPY config config
COPY migrations migrations
COPY src src
COPY tests/backends tests/backends
# What cargo fetched and built is kept from one build to the next, but is no part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --package callboard --bin callboard \
    && install -D --strip target/release/callboard /out/callboard \
    && mkdir /out/data

# No shell, no package manager, nothing but libc, libgcc, time zones and roots of trust. Not Alpine: its allocator is slow under
# load. Not `scratch`: a static binary could not look up names as the host's configuration says.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="Callboard" \
      org.opencontainers.image.description="A durable, event-driven function orchestrator for unmodified Inngest SDK apps." \
      org.opencontainers.image.source="https://github.com/callboard/callboard" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/callboard /usr/local/bin/callboard
COPY --from=build --chown=nonroot:nonroot /out/data /data
# The built-in database; not used with PostgreSQL and Redis.
ENV CALLBOARD__DATA__DIR=/data
VOLUME /data
WORKDIR /data
USER nonroot:nonroot
EXPOSE 8288
# Leaves calls under way `shutdown.grace` to end: give the container longer than that before it is killed.
STOPSIGNAL SIGTERM
# The binary asks itself; there is no other client in the image.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["callboard", "health"]
ENTRYPOINT ["callboard"]
CMD ["start"]
