# The service with PyTorch for the CPU or for CUDA, whichever wheel the package index gives.
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 videomind && install --directory --owner=videomind /data
WORKDIR /app
COPY pyproject.toml constraints.txt LICENSE README.md ./
COPY vm vm
COPY worker worker
COPY migrations migrations
RUN pip install --no-cache-dir -c constraints.txt .

USER videomind
ENTRYPOINT []
CMD ["videomind", "--help"]
