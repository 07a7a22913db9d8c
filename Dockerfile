# The laboratory, on CPUs. The paper on the ORL faces:
#   docker build -t babam_jax .
#   docker run --rm -v babam_runs:/runs babam_jax
# The report is then /runs/orl/report.html. A command of your own:
#   docker run --rm -v babam_runs:/runs -v "$PWD/enrollments:/input:ro" \
#     babam_jax python -m launch.sanitize --input=/input --output=/runs/clean
FROM python:3.13-slim

# Downloads and compiled code are kept between runs, beside the results.
ENV BABAM_CACHE=/runs/cache \
    PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

WORKDIR /app

# What is needed changes seldom: this layer is built once.
COPY requirements.txt ./
RUN pip install -r requirements.txt

COPY . .

# A folder that is mounted at /runs must be writable for this user (1000).
RUN useradd --create-home --uid 1000 babam \
    && mkdir /runs \
    && chown babam:babam /runs
USER babam
VOLUME /runs

# The results of stages go to the volume, too: a stopped run continues.
CMD ["python", "-m", "launch.main", "--config=configs/orl_multiclass.py", \
     "--workdir=/runs/orl", "--artifacts=/runs/artifacts"]
