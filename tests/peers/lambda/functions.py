"""Makes a function with boto3, and callers that may call it, at a server that is compatible with AWS; then the server verifies
signatures and permissions. Prints one line for each caller: its name, access key id, secret and session token. The argument is the port
of the server."""

import io
import json
import sys
import urllib.request
import zipfile

import boto3

endpoint = f"http://127.0.0.1:{sys.argv[1]}"


def client(service):
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
    return boto3.client(service, region_name="eu-west-1", endpoint_url=endpoint, **keys)


def post(path, body):
    # moto reads no body that is a form.
    request = urllib.request.Request(endpoint + path, data=body, headers={"content-type": "application/json"})
    urllib.request.urlopen(request, timeout=20).read()


def policy(effect):
    # moto checks the name of the operation, AWS the name of the permission.
    actions = ["lambda:InvokeFunction", "lambda:Invoke"]
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": actions, "Resource": "*"}]})


# Responses are those that a test sets, without Docker.
post("/moto-api/config", json.dumps({"lambda": {"use_docker": False}}).encode())
iam = client("iam")
trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com", "AWS": "*"}, "Action": "sts:AssumeRole"}
trust = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
role = iam.create_role(RoleName="authorizer", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
iam.put_role_policy(RoleName="authorizer", PolicyName="invoke", PolicyDocument=policy("Allow"))
code = io.BytesIO()
with zipfile.ZipFile(code, "w") as archive:
    archive.writestr("index.py", "def handler(event, context):\n    return event\n")
client("lambda").create_function(
    FunctionName="authorizer", Runtime="python3.11", Handler="index.handler", Role=role, Code={"ZipFile": code.getvalue()}
)
for name, effect in [("permitted", "Allow"), ("denied", "Deny")]:
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="invoke", PolicyDocument=policy(effect))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    print(name, key["AccessKeyId"], key["SecretAccessKey"], "-")
session = client("sts").assume_role(RoleArn=role, RoleSessionName="gateway")["Credentials"]
print("session", session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
post("/moto-api/reset-auth", b"0")
