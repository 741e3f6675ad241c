# Two stages: compile, then only what runs. The Debian packages of both come from scripts/packages.txt.
FROM debian:12-slim AS build
WORKDIR /src
COPY scripts/setup scripts/common.sh scripts/packages.txt scripts/
RUN ./scripts/setup build && rm -rf /var/lib/apt/lists/*
COPY . .
RUN cmake --preset release -DSONORANT_TESTS=OFF \
 && cmake --build build/release --target sonorant \
 && cmake --install build/release --strip --prefix /opt/sonorant

FROM debian:12-slim
COPY scripts/setup scripts/common.sh scripts/packages.txt scripts/healthcheck /opt/sonorant/scripts/
RUN /opt/sonorant/scripts/setup run && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin sonorant
COPY --from=build /opt/sonorant /opt/sonorant
COPY LICENSE /opt/sonorant/
USER sonorant
WORKDIR /opt/sonorant
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=6s --start-period=30s --retries=3 CMD ["/opt/sonorant/scripts/healthcheck", "8080"]
ENTRYPOINT ["/opt/sonorant/bin/sonorant"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
