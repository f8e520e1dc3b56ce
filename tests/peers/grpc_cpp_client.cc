// Calls by gRPC in C++, of bytes as they are: grpc_cpp_client ADDRESS REQUEST_FILE [CA_FILE]. A line for each: its name,
// the status code, and how many bytes were answered.
#include <fstream>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <iostream>
#include <iterator>
#include <vector>

static std::string file(const char *path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

static grpc::ByteBuffer buffer(const std::string &bytes) {
    grpc::Slice slice(bytes);
    return {&slice, 1};
}

struct Call {
    grpc::ClientContext context;
    grpc::ByteBuffer answer;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> reader;
};

int main(int count, char **words) {
    if (count < 3) return 2;
    auto credentials = grpc::InsecureChannelCredentials();
    if (count > 3) {
        grpc::SslCredentialsOptions options;
        options.pem_root_certs = file(words[3]);
        credentials = grpc::SslCredentials(options);
    }
    grpc::GenericStub stub(grpc::CreateChannel(words[1], credentials));
    grpc::CompletionQueue queue;
    const std::string service = "/inference.GRPCInferenceService/", body = file(words[2]);
    auto ask = [&](const std::string &name, const std::string &bytes, int times) {
        std::vector<Call> calls(times);
        for (auto &call : calls) {
            call.context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
            call.reader = stub.PrepareUnaryCall(&call.context, service + name, buffer(bytes), &queue);
            call.reader->StartCall();
            call.reader->Finish(&call.answer, &call.status, &call);
        }
        for (int left = times; left > 0; left--) {
            void *tag;
            bool ok;
            queue.Next(&tag, &ok);
            auto *call = static_cast<Call *>(tag);
            std::cout << name << " " << call->status.error_code() << " " << call->answer.Length() << std::endl;
        }
    };
    ask("ServerLive", "", 1);
    ask("ModelInfer", body, 1);
    ask("Nothing", body, 1);
    ask("ModelInfer", body, 100);
}
