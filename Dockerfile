# Images of the programs: `docker build --target operator .`, `--target proxy`, and `--target sluice` for the command, which
# also holds the example servers.
# Both build arguments name an image, for those who mirror theirs: RUST compiles, BASE is what the program runs on. BASE
# needs glibc 2.34 or later, libgcc and CA certificates, and should have no shell.
ARG RUST=rust:1-bookworm
ARG BASE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST} AS build
# A profile of Cargo.toml: `release` is slow to link and fast to run.
ARG PROFILE=release
WORKDIR /source
COPY . .
RUN cargo build --locked --profile "${PROFILE}" -p sluice-operator -p sluice-proxy -p sluice-cli --bins \
 && install -Dt /programs "target/${PROFILE}/sluice-operator" "target/${PROFILE}/sluice-proxy" "target/${PROFILE}/sluice"

FROM ${BASE} AS operator
COPY --from=build /programs/sluice-operator /usr/bin/sluice-operator
USER 65532:65532
ENTRYPOINT ["/usr/bin/sluice-operator"]

FROM ${BASE} AS proxy
COPY --from=build /programs/sluice-proxy /usr/bin/sluice-proxy
USER 65532:65532
ENTRYPOINT ["/usr/bin/sluice-proxy"]

FROM ${BASE} AS sluice
COPY --from=build /programs/sluice /usr/bin/sluice
USER 65532:65532
ENTRYPOINT ["/usr/bin/sluice"]
